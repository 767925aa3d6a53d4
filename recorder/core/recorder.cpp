#include "recorder.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

#include "descriptors.h"
#include "quiet_thread.h"
#include "recording/frame.h"
#include "recording/records.h"
#include "sampling.h"

namespace cw::recorder {
namespace {

using Clock = std::chrono::steady_clock;
// Between polls of the queue: each wakes one of the engine's cores.
constexpr auto pause = std::chrono::milliseconds(10);
constexpr auto window = std::chrono::milliseconds(250);
// Then doubled, up to the one above.
constexpr auto first_window = std::chrono::milliseconds(10);
constexpr auto first_patience = std::chrono::milliseconds(50);
constexpr auto idle_after = std::chrono::milliseconds(500);
constexpr auto patience = std::chrono::seconds(2);  // with an engine that exits
constexpr std::size_t max_backlog = 48u << 20;      ///< beyond this the file takes no content
constexpr std::size_t max_copied = 16u << 20;       ///< of one tensor

std::uint64_t product(std::span<const std::int64_t> shape) {
  std::uint64_t count = 1;
  for (const std::int64_t extent : shape) count *= static_cast<std::uint64_t>(extent);
  return count;
}

// A 128-bit product folded to 64 bits: little code, and good enough for a cache of a few hundred
// entries (the arguments themselves are never compared, so it must not be worse than that).
std::uint64_t mixed(std::uint64_t left, std::uint64_t right) {
  __extension__ using Wide = unsigned __int128;
  const auto product =
      static_cast<Wide>(left ^ 0x9e3779b97f4a7c15u) * (right ^ 0xd1b54a32d192ed03u);
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// A tensor as dense rows: their count, length and pitch in elements.
struct Rows {
  std::uint64_t count = 1, length = 0, pitch = 0;
};

// False for layouts that are neither dense nor rows with gaps in between.
bool as_rows(const TensorView& tensor, Rows& rows) {
  const std::uint64_t all = product(tensor.shape);
  rows = {1, all, all};
  if (tensor.strides.empty() || all <= 1) return true;
  std::uint64_t dense = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    const auto extent = static_cast<std::uint64_t>(tensor.shape[i]);
    if (extent == 1) continue;
    if (tensor.strides[i] < 0) return false;
    const auto stride = static_cast<std::uint64_t>(tensor.strides[i]);
    if (stride != dense) {
      // Only the outermost axis may have gaps.
      if (stride < dense || product(tensor.shape.first(i)) != 1) return false;
      rows = {extent, dense, stride};
      return true;
    }
    dense *= extent;
  }
  return true;
}

// A page table as its rows: two axes, the second one dense.
bool as_table(const TensorView& tensor, Rows& rows) {
  if (tensor.shape.size() != 2) return false;
  const auto width = static_cast<std::uint64_t>(tensor.shape[1]);
  rows = {static_cast<std::uint64_t>(tensor.shape[0]), width, width};
  if (tensor.strides.empty()) return true;
  rows.pitch = static_cast<std::uint64_t>(tensor.strides[0]);
  return (width <= 1 || tensor.strides[1] == 1) && (rows.count <= 1 || tensor.strides[0] >= 0) &&
         (rows.count <= 1 || rows.pitch >= width);
}

std::string header_frame(const RecorderOptions& options) {
  Json header = options.header;
  header["record"] = recording::name(recording::RecordKind::recording);
  header["format"] = recording::format_version;
  std::string payload;
  Json::to_cbor(header, payload);
  return recording::make_frame(payload);
}

std::string first_line(const char* path) {
  std::string line;
  std::getline(std::ifstream(path), line);
  return line;
}

}  // namespace

Recorder::Recorder(RecorderOptions options)
    : options_(std::move(options)),
      queue_(options_.queue_bytes),
      staging_(options_.staging_bytes),
      aggregator_(queue_, staging_, options_.aggregator),
      thread_(quiet_thread([this] { run(); })) {}

Recorder::~Recorder() {
  stop();
}

void Recorder::push(std::span<const std::byte> event, Queue::Limit limit) {
  if (!queue_.push(event, limit)) events_lost_.fetch_add(1, std::memory_order_relaxed);
}

// What later events depend on bypasses the limit: there is little of it.
void Recorder::push(EventHeader header, const Json& body) {
  std::vector<std::uint8_t> cbor;
  if (!body.is_null()) cbor = Json::to_cbor(body);
  header.size = static_cast<std::uint32_t>(cbor.size());
  const auto head = std::as_bytes(std::span(&header, 1)), rest = std::as_bytes(std::span(cbor));
  std::vector<std::byte> event(head.begin(), head.end());
  event.insert(event.end(), rest.begin(), rest.end());
  push(event, header.kind == EventKind::raised ? Queue::Limit::holds : Queue::Limit::ignored);
}

std::uint32_t Recorder::add_function(const Json& function) {
  push({.kind = EventKind::function, .function = next_function_}, function);
  is_plan_.push_back(function.value("role", "") == recording::name(recording::Role::plan));
  return next_function_++;
}

void Recorder::add_name(std::uint32_t function, std::string_view name) {
  push({.kind = EventKind::name, .function = function}, std::string(name));
}

void Recorder::begin_call(CallBuilder& call, std::uint32_t function, std::uint64_t self,
                          std::uint8_t flags, std::uint64_t graph) {
  call.header_ = {
      .kind = EventKind::call, .flags = flags, .function = function, .self = self, .graph = graph};
  call.arguments_.clear();
  call.tensors_ = 0;
  call.contents_.clear();
  call.has_reserved_ = call.is_on_stream_ = false;
}

bool Recorder::ensure_device(Device::Stream stream) {
  if (captures_ > 0 || has_device_failed_) return false;
  if (!has_looked_for_device_) {
    has_looked_for_device_ = true;
    if (!device_) device_ = loaded_cuda_driver();
    if (device_ && device_->is_capturing(stream)) {
      has_looked_for_device_ = false;  // nothing may be set up during a capture
      return false;
    }
    has_device_failed_ = !device_ || !staging_.attach(*device_);
  }
  return !has_device_failed_ && !device_->is_capturing(stream);
}

void Recorder::set_device(std::unique_ptr<Device> device) {
  device_ = std::move(device);
}

std::int16_t Recorder::take_values(CallBuilder& call, const TensorView& tensor, std::uint16_t index,
                                   std::uint64_t count, Device::Stream stream) {
  const std::size_t element = tensor.type.bits / 8;
  Content content{.count = std::min(count, product(tensor.shape)),
                  .element_size = static_cast<std::uint32_t>(element),
                  .tensor = index};
  const auto add = [&] {
    call.contents_.push_back(content);
    return static_cast<std::int16_t>(call.contents_.size() - 1);
  };

  // Layouts that can be copied as they are: rows, dense or with gaps in between.
  Rows rows;
  const std::size_t bytes = content.count * element;
  if (element == 0 || bytes > max_copied || !as_rows(tensor, rows)) return add();
  if (rows.count == 1) rows.length = rows.pitch = content.count;
  if (rows.count > 1 && content.count != product(tensor.shape))
    return add();  // a front that ends within a row
  if (tensor.is_on_device && call.is_on_stream_) {
    if (stream != call.stream_) return add();  // a mark covers one stream
  } else if (bytes > 0 && tensor.is_on_device && !ensure_device(stream)) {
    return add();
  }

  // Room in the ring.
  std::byte* to = staging_.reserve(std::max<std::size_t>(bytes, 1));
  if (to == nullptr) return add();
  call.has_reserved_ = true;
  content.job = 1;  // its number is known when the call is sent
  content.data = to;
  if (bytes == 0) return add();

  // From the device on the caller's stream, from the host at once.
  if (tensor.is_on_device) {
    if (!device_->copy(to, tensor.data, rows.length * element, rows.count, rows.pitch * element,
                       stream))
      content.job = 0;
    call.is_on_stream_ = true;
    call.stream_ = stream;
  } else {
    const auto* from = static_cast<const std::byte*>(tensor.data);
    for (std::uint64_t row = 0; row < rows.count; ++row)
      std::memcpy(to + row * rows.length * element, from + row * rows.pitch * element,
                  rows.length * element);
  }
  return add();
}

void Recorder::take_table(CallBuilder& call, const TensorView& tensor, std::uint16_t index,
                          Table table, Device::Stream stream) {
  // Its front is a tensor with gaps between its rows.
  Rows rows;
  if (!as_table(tensor, rows)) {
    call.contents_.push_back(
        {.count = product(tensor.shape), .tensor = index, .is_left_out = true});
    return;
  }
  const std::uint64_t columns = columns_of(rows.count, rows.length, tensor.type.bits / 8);
  const std::int64_t shape[] = {static_cast<std::int64_t>(rows.count),
                                static_cast<std::int64_t>(columns)},
                     strides[] = {static_cast<std::int64_t>(rows.pitch), 1};
  const std::int16_t taken =
      take_values(call, {tensor.type, shape, strides, tensor.data, tensor.is_on_device}, index,
                  ~std::uint64_t{0}, stream);
  Content& content = call.contents_[static_cast<std::size_t>(taken)];
  content.count = product(tensor.shape);
  content.lengths = table.lengths;
  content.page = table.page;
  content.rows = static_cast<std::uint32_t>(rows.count);
  content.columns = static_cast<std::uint32_t>(columns);
}

// Of a page table, as far as sequences have reached, and no more than is copied of one tensor.
std::uint64_t Recorder::columns_of(std::uint64_t rows, std::uint64_t width,
                                   std::uint64_t element) const {
  const std::uint64_t most = max_copied / std::max<std::uint64_t>(rows * element, 1);
  return std::min({width, most, std::uint64_t{aggregator_.columns()}});
}

std::int16_t Recorder::watch(CallBuilder& call, const TensorView& tensor, std::uint16_t index,
                             std::int32_t device, std::optional<Table> table) {
  constexpr std::size_t max_inputs = 64;
  Content content{.count = product(tensor.shape),
                  .element_size = static_cast<std::uint32_t>(tensor.type.bits / 8),
                  .tensor = index};
  if (table) {
    content.lengths = table->lengths;
    content.page = table->page;
  }

  // The graph's calls share what they read. What is planned in a graph, the graph makes itself, and
  // not in memory of its own: before a replay, the last step's is there.
  Rows rows;
  const bool has_rows = table ? as_table(tensor, rows) : as_rows(tensor, rows);
  content.rows = static_cast<std::uint32_t>(rows.count);
  const bool is_whole = content.element_size > 0 && content.count > 0 && has_rows;
  if (tensor.is_on_device && is_whole && !is_plan_[call.header_.function]) {
    Graph& graph = graphs_[call.header_.graph];
    const GraphInput input{.data = tensor.data,
                           .element_size = content.element_size,
                           .rows = rows.count,
                           .row = rows.length,
                           .pitch = rows.pitch,
                           .is_table = table.has_value()};
    auto found = std::ranges::find_if(
        graph.inputs, [&input](const GraphInput& known) { return known.is_same(input); });
    const bool has_room =
        graph.inputs.size() < max_inputs && (graph.inputs.empty() || graph.device == device);
    if (found == graph.inputs.end() && has_room) {
      graph.device = device;
      found = graph.inputs.insert(found, input);
    }
    if (found != graph.inputs.end())
      content.slot = static_cast<std::int16_t>(found - graph.inputs.begin());
    if (const std::int16_t lengths =
            table ? call.contents_[static_cast<std::size_t>(table->lengths)].slot
                  : std::int16_t{-1};
        lengths >= 0)
      graph.inputs[static_cast<std::size_t>(lengths)].has_lengths = true;
  }
  call.contents_.push_back(content);
  return static_cast<std::int16_t>(call.contents_.size() - 1);
}

void Recorder::leave_out(CallBuilder& call, const TensorView& tensor, std::uint16_t index) {
  call.contents_.push_back({.count = product(tensor.shape), .tensor = index, .is_left_out = true});
}

void Recorder::bound(CallBuilder& call, std::int16_t content, std::int16_t bound) {
  call.contents_[static_cast<std::size_t>(content)].bounded_by = bound;
}

// A wrapper's calls are of its last plan; a function's of none.
std::uint64_t Recorder::epoch_of(const CallBuilder& call) const {
  return call.header_.self != 0 ? epoch_ : 0;
}

std::uint64_t Recorder::key_of(const CallBuilder& call) const {
  const EventHeader& header = call.header_;
  std::uint64_t key = mixed(header.function << 8 | header.flags, header.self);
  key = mixed(key, epoch_of(call));
  std::span<const std::byte> rest = call.arguments_.bytes();
  key = mixed(key, rest.size());
  while (!rest.empty()) {
    std::uint64_t words[2] = {};
    std::memcpy(words, rest.data(), std::min(rest.size(), sizeof words));
    rest = rest.subspan(std::min(rest.size(), sizeof words));
    key = mixed(key ^ words[0], key + words[1]);
  }
  return key | 1;  // 0 is none
}

Recorder::Known* Recorder::find_known(std::uint64_t key) {
  for (Known& known : known_[key / 2 % sets].ways_)
    if (known.key == key) return &known;
  return nullptr;
}

// Replaces another call of the set. Null: no counter is left for it.
Recorder::Known* Recorder::new_known(std::uint64_t key) {
  Known& known = known_[key / 2 % sets].ways_[next_way_++ % ways];
  if (known.repeats != nullptr)
    known.repeats->state.store(Repeats::State::retired, std::memory_order_release);
  known = {};
  Repeats* const repeats = repeats_.take();
  if (repeats == nullptr) return nullptr;
  known = {key, repeats};
  return &known;
}

Recorder::Sent Recorder::send(CallBuilder& call) {
  const bool has_values = std::ranges::any_of(
      call.contents_, [](const Content& content) { return !content.is_left_out; });
  Known* known = nullptr;
  call.header_.repeats = nullptr;
  if (is_plan_[call.header_.function]) {
    ++epoch_;
    if (call.header_.graph != 0) graphs_[call.header_.graph].has_plans = true;
  } else if (!has_values && call.header_.graph == 0) {
    const std::uint64_t key = key_of(call);
    if (known = find_known(key); known != nullptr) {
      count_repeat(*known->repeats);
      return {known->repeats->sequence, known->repeats, epoch_of(call), true};
    }
    known = new_known(key);
    if (known != nullptr) call.header_.repeats = known->repeats;
  }

  // The copies begun so far are one job from here on.
  std::uint64_t job = 0;
  if (call.has_reserved_)
    job = staging_.commit(call.is_on_stream_ ? device_.get() : nullptr, call.stream_);
  call.has_reserved_ = call.is_on_stream_ = false;
  for (Content& content : call.contents_)
    if (content.job != 0) content.job = job;

  // The event: header, contents, arguments and addresses, one after another.
  const auto arguments = call.arguments_.bytes();
  EventHeader& header = call.header_;
  header.sequence = ++next_call_;
  if (known != nullptr) known->repeats->sequence = header.sequence;
  header.contents = static_cast<std::uint16_t>(call.contents_.size());
  header.size = static_cast<std::uint32_t>(arguments.size());
  header.addresses =
      static_cast<std::uint32_t>(std::min<std::size_t>(call.tensors_, CallBuilder::max_addresses));
  const std::size_t contents_size = call.contents_.size() * sizeof(Content);
  const std::size_t arguments_size = (arguments.size() + 7) & ~std::size_t{7};
  const std::size_t addresses_size = header.addresses * sizeof(std::uint64_t);
  call.event_.resize(sizeof header + contents_size + arguments_size + addresses_size);
  std::byte* at = call.event_.data();
  const auto append = [&at](const void* data, std::size_t size, std::size_t room) {
    if (size > 0) std::memcpy(at, data, size);
    at += room;
  };
  append(&header, sizeof header, sizeof header);
  append(call.contents_.data(), contents_size, contents_size);
  append(arguments.data(), arguments.size(), arguments_size);
  append(call.addresses_.data(), addresses_size, addresses_size);

  // A counted call is in the queue, in the file, or lost.
  if (!queue_.push(call.event_)) {
    events_lost_.fetch_add(1, std::memory_order_relaxed);
    if (known != nullptr) {  // nothing would collect its counts
      known->repeats->state.store(Repeats::State::free, std::memory_order_relaxed);
      *known = {};
      known = nullptr;
    }
  }
  if (header.graph == 0) count_call();
  if (!std::exchange(has_waited_, true)) wait_for_first_write();
  return {header.sequence, known != nullptr ? known->repeats : nullptr, epoch_of(call)};
}

bool Recorder::repeat(const Sent& sent) {
  if (sent.epoch != 0 && sent.epoch != epoch_) return false;
  Repeats& repeats = *sent.repeats;
  if (repeats.state.load(std::memory_order_relaxed) != Repeats::State::counting ||
      repeats.sequence != sent.call)
    return false;
  count_repeat(repeats);
  return true;
}

void Recorder::count_repeat(Repeats& repeats) {
  repeats.count.fetch_add(1, std::memory_order_release);
  count_call();
}

// Handed over before it is counted: a counted call is in the queue or in the file, or lost with the
// process.
void Recorder::count_call() {
  const std::uint64_t made = calls_made_.load(std::memory_order_relaxed) + 1;
  calls_made_.store(made, std::memory_order_relaxed);
  if (auto* const counts = counts_.load(std::memory_order_acquire))
    counts->calls.store(made, std::memory_order_relaxed);
}

// Calls made before there was a place to count them are included.
void Recorder::claim_counts() {
  auto* const counts = recorder::claim_counts(options_.counts);
  if (counts == nullptr) return;
  counts_ = counts;
  const auto raise_to = [](std::atomic<std::uint64_t>& count, std::uint64_t min) {
    for (std::uint64_t seen = count; seen < min && !count.compare_exchange_weak(seen, min);) {
    }
  };
  raise_to(counts->calls, calls_made_);
  raise_to(counts->replays, replays_made_);
}

// A process killed after this leaves a recording, which says that it did not end in order.
void Recorder::wait_for_first_write() const {
  const auto deadline = Clock::now() + first_patience;
  while (!has_written_ && !has_failed_ && Clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void Recorder::raised(std::uint32_t function, std::uint64_t call) {
  push({.kind = EventKind::raised, .function = function, .sequence = call}, nullptr);
}

std::uint64_t Recorder::begin_capture() {
  ++captures_;
  push({.kind = EventKind::begin, .graph = ++next_graph_}, nullptr);
  return next_graph_;
}

void Recorder::end_capture() {
  if (captures_ > 0) --captures_;
}

void Recorder::forget_graph(std::uint64_t graph) {
  graphs_.erase(graph);
  push({.kind = EventKind::forget, .graph = graph}, nullptr);
}

void Recorder::expose(std::uint64_t graph) {
  push({.kind = EventKind::exposed, .graph = graph}, nullptr);
}

void Recorder::forget_memory(std::uint64_t graph, std::uint64_t begin, std::uint64_t size) {
  const auto found = graphs_.find(graph);
  if (found == graphs_.end()) return;
  for (GraphInput& input : found->second.inputs) {
    const auto address = reinterpret_cast<std::uint64_t>(input.data);
    if (address >= begin && address - begin < size) input.data = nullptr;
  }
}

std::optional<std::int32_t> Recorder::device_of(std::uint64_t graph) const {
  const auto found = graphs_.find(graph);
  if (found == graphs_.end() || found->second.inputs.empty()) return {};
  return found->second.device;
}

// Lengths before every replay, as they tell how much of a table is in use. Of all else, as many
// replays of each octave: the cost of a copy is felt by an engine whose steps take milliseconds.
bool Recorder::Graph::is_taken(const GraphInput& input) const {
  constexpr unsigned octaves_of_tables = 9, octaves_of_others = 4;
  if (input.has_lengths) return true;
  const unsigned first = input.is_table ? octaves_of_tables : octaves_of_others;
  return is_in_sample(replays, first);
}

std::vector<Content> Recorder::take_inputs(Graph& graph, Device::Stream stream,
                                           std::uint64_t& job) {
  const bool has_device = ensure_device(stream);

  std::vector<Content> contents;
  bool has_reserved = false;
  for (const GraphInput& input : graph.inputs) {
    Content& content = contents.emplace_back();
    const std::uint64_t row =
        input.is_table ? columns_of(input.rows, input.row, input.element_size) : input.row;
    content.columns = static_cast<std::uint32_t>(row);
    const std::size_t bytes = input.rows * row * input.element_size;
    content.is_left_out = !graph.is_taken(input);
    if (input.data == nullptr) continue;
    content.slot = static_cast<std::int16_t>(contents.size() - 1);
    if (content.is_left_out || !has_device || bytes > max_copied) continue;
    std::byte* const to = staging_.reserve(bytes);
    if (to == nullptr) continue;
    has_reserved = true;
    content.data = to;
    content.job = device_->copy(to, input.data, row * input.element_size, input.rows,
                                input.pitch * input.element_size, stream)
                      ? 1
                      : 0;
  }
  ++graph.replays;
  if (!has_reserved) return contents;
  job = staging_.commit(device_.get(), stream);
  for (Content& content : contents)
    if (content.job != 0) content.job = job;
  return contents;
}

void Recorder::replay(std::uint64_t graph, std::uint8_t flags, Device::Stream stream) {
  std::vector<Content> contents;
  std::uint64_t job = 0;
  if (const auto found = graphs_.find(graph); found != graphs_.end()) {
    Graph& known = found->second;
    // Runs after a plan are others than those before it.
    if (known.has_plans) ++epoch_;
    // What its calls are about to read, unless that is no traffic.
    if (!known.inputs.empty() && (flags & flag::dummy) == 0)
      contents = take_inputs(known, stream, job);
  }
  const EventHeader header{.kind = EventKind::replay,
                           .flags = flags,
                           .contents = static_cast<std::uint16_t>(contents.size()),
                           .sequence = job,
                           .graph = graph};
  const auto head = std::as_bytes(std::span(&header, 1)), rest = std::as_bytes(std::span(contents));
  std::vector<std::byte> event(head.begin(), head.end());
  event.insert(event.end(), rest.begin(), rest.end());
  push(event, Queue::Limit::ignored);
  const std::uint64_t made = replays_made_.load(std::memory_order_relaxed) + 1;
  replays_made_.store(made, std::memory_order_relaxed);
  if (auto* const counts = counts_.load(std::memory_order_acquire))
    counts->replays.store(made, std::memory_order_relaxed);
}

void Recorder::set_batch(std::uint64_t sequences) {
  push({.kind = EventKind::batch, .self = sequences}, nullptr);
}

void Recorder::fail(std::string why) {
  failure_ = std::move(why);
  has_failed_ = true;
  leave_counts();
}

// Marks the counts as ended: nothing has been lost unreported.
void Recorder::leave_counts() {
  if (auto* const counts = counts_.load()) counts->state = recording::SlotState::ended;
}

void Recorder::flush(std::string frames) {
  if (frames.empty()) return;
  if (!file_) {
    // Not before there is something to write: most processes of an engine never call a kernel.
    ::mkdir(options_.folder.c_str(), 0700);
    for (int number = 0; number < 1000; ++number) {
      const std::string suffix = number == 0 ? "" : "-" + std::to_string(number);
      const std::string path =
          options_.folder + "/" + options_.name + suffix + std::string(recording::extension);
      file_ = std::make_unique<RecordingFile>(path, counts_);
      if (!file_->is_taken()) break;
    }
    if (file_->is_taken())
      return fail("every name for the recording is taken in " + options_.folder);
    frames.insert(0, header_);
  }
  file_->append(std::move(frames), aggregator_.written());
  if (!file_->is_open()) fail(file_->error());
}

// Reads what the first record says here, where no descriptor is the engine's. It counts against the
// budget too.
void Recorder::describe_process() {
  options_.header["program"] = first_line("/proc/self/comm");
  options_.header["boot"] = first_line("/proc/sys/kernel/random/boot_id");
  header_ = header_frame(options_);
  aggregator_.spend(header_.size());
}

bool Recorder::consume(bool is_last, bool has_room) {
  using PendingCopies = Aggregator::PendingCopies;

  // Copies that never arrive must not make the queue overflow.
  const bool gives_up = is_last || queue_.pending() > options_.queue_bytes / 2;
  return aggregator_.consume(gives_up ? PendingCopies::give_up : PendingCopies::wait, has_room);
}

void Recorder::run() {
  if (!leave_shared_descriptors(0))
    return fail("this system gives a thread no file descriptors of its own");

  try {
    describe_process();
    claim_counts();
    // Pool workers may be killed right after their only call: the first data is written soon.
    std::chrono::milliseconds current_window = first_window;
    auto next_flush = Clock::now();
    auto deadline = Clock::time_point::max(), idle_at = deadline;
    bool is_last = false;
    while (!has_failed_) {
      const bool has_room = !file_ || file_->backlog() < max_backlog;
      const bool has_more = consume(is_last, has_room);
      // Nor may an exiting engine wait long for what is still in the queue.
      if (is_last && Clock::now() > deadline) {
        events_lost_ += aggregator_.abandon();
        break;
      }
      if (Clock::now() >= next_flush) aggregator_.take_repeats();
      if (aggregator_.is_window_full()
              ? has_room
              : Clock::now() >= next_flush && has_room && aggregator_.has_window()) {
        flush(aggregator_.take_frames());
        if (!has_written_) {
          if (file_) (void)file_->drain(static_cast<unsigned>(first_patience.count()));
          has_written_ = true;
        }
        next_flush = Clock::now() + current_window;
        current_window = std::min(2 * current_window, window);
        idle_at = Clock::now() + idle_after;
        continue;
      }
      // A process that is killed from here on has lost nothing.
      if (file_ && Clock::now() >= idle_at && !has_more && !aggregator_.has_window() &&
          queue_.pending() == 0) {
        flush(aggregator_.idle_frame());
        idle_at = Clock::time_point::max();
      }

      // If the file fails, so does the recorder.
      if (file_ && !file_->is_open()) fail(file_->error());
      if (has_more) continue;
      if (is_last) break;
      if (is_stopping_) {
        is_last = true;
        deadline = Clock::now() + patience;
        continue;
      }
      std::this_thread::sleep_for(pause);
    }

    if (!has_failed_ && (file_ || aggregator_.has_window()))
      flush(aggregator_.end_frames(events_lost_));
  } catch (const std::exception& error) {
    fail(std::string("internal: ") + error.what());
  }
}

void Recorder::stop() {
  is_stopping_ = true;
  if (thread_.joinable()) thread_.join();
  // A hung disk must not hang the engine: leave the file and its thread until the process ends.
  if (file_ && !file_->drain(static_cast<unsigned>(std::chrono::milliseconds(patience).count()))) {
    static_cast<void>(file_.release());
    return;
  }
  if (file_ && !file_->is_open() && !has_failed_) fail(file_->error());
  leave_counts();
}

}  // namespace cw::recorder
