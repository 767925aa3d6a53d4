#include "capture/recorder/recording_capture.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include <fcntl.h>
#include <tbb/global_control.h>
#include <tbb/task_group.h>

#include "base/console.h"
#include "base/hash.h"
#include "recording/frame.h"
#include "recording/records.h"

namespace cw::recording {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t max_chunk_size = 1 << 20;       ///< larger for a larger frame
constexpr std::size_t max_ahead = 8;                  ///< chunks
constexpr std::size_t max_cached_bytes = 4 << 20;     ///< of contents, by size in memory
constexpr std::size_t max_signature_size = 64 << 10;  ///< real ones take a few hundred bytes
constexpr std::uint64_t max_lost = std::uint64_t{1}
                                   << 48;  ///< per file: their sum does not wrap either
constexpr std::uint64_t max_calls = std::uint64_t{1}
                                    << 63;  ///< in all files: sums of counts do not wrap
// Bounds for a damaged or forged recording; a real one has dozens of signatures with dozens of
// parameters.
constexpr std::size_t max_signature_length = 16 << 10, max_parameters = 200'000;

// The part of a name that is kept; function names are printed in many places.
std::string printable(std::string_view text) {
  constexpr std::size_t max_length = 512;
  std::string name = for_terminal(text.substr(0, max_length));
  std::ranges::replace(name, '\n', '?');
  return name;
}

std::string_view text_of(const CborItem& record, std::string_view name) {
  const auto member = record.member(name);
  return member ? member->text().value_or("") : std::string_view();
}

std::uint64_t number_of(const CborItem& record, std::string_view name) {
  const auto member = record.member(name);
  return member ? member->unsigned_integer().value_or(0) : 0;
}

// The number of a site or form; nothing if it is absent or out of range.
std::optional<std::uint32_t> own_number(const CborItem& record, std::string_view name) {
  const auto member = record.member(name);
  const auto number = member ? member->unsigned_integer() : std::nullopt;
  if (!number || *number > max_numbers) return {};
  return static_cast<std::uint32_t>(*number);
}

// A "calls" record among others, or any other payload.
struct DecodedFrame {
  Frame::Status status = Frame::Status::whole;
  std::string_view payload;
  std::uint64_t offset = 0;  ///< of the frame in the file
  /// Groups that were decoded: [begin, end) of the chunk's; both 0 if it is another record.
  std::size_t begin = 0, end = 0;
  bool is_calls = false;
};

}  // namespace

// A run of whole frames of one file.
struct RecordingCapture::Chunk {
  std::uint32_t file = 0;
  std::uint64_t offset = 0;
  std::size_t size = 0;
  /// What follows cannot be read: why, if not because the frames end.
  std::optional<Error> unreadable;
  std::optional<std::uint64_t> damaged_at;

  /// Of its own: it goes on when whoever started it has ended.
  tbb::task_group_context context{tbb::task_group_context::isolated};
  tbb::task_group decoding{context};
  std::string bytes;  ///< the first `size` of them
  std::vector<DecodedFrame> frames;
  CallGroups groups;

  ~Chunk() { decoding.wait(); }
};

// The values of a content's tensors, read from the recording when they are asked for.
class RecordingCapture::Values final : public TensorStore {
 public:
  Values(const File& file, std::span<const CallValues> values, std::uint64_t before,
         bool is_replayed)
      : file_(file), is_replayed_(is_replayed) {
    for (const CallValues& one : values)
      values_.push_back({one, place_of_values(file, one, before)});
  }

  void add(std::size_t entry, DType dtype) { dtypes_.emplace(entry, dtype); }

  Result<std::string> read(std::size_t entry, std::uint64_t count) const override {
    const auto found =
        std::ranges::find_if(values_, [entry](const Kept& v) { return v.values.tensor == entry; });

    // If there are none, say why.
    if (found == values_.end() && is_replayed_)
      return fail(
          "values_in_graph",
          "made or planned in a replay of a CUDA graph, which makes this index tensor itself: it "
          "cannot be read before the replay");
    if (found == values_.end())
      return fail("values_not_recorded",
                  "the recorder does not record values of this tensor: it records those of index "
                  "tensors that a binding names, and floats only with --keep-values");
    const CallValues& values = found->values;
    if (values.state == ValueState::sampled_out)
      return fail("values_sampled_out",
                  "enough other calls with index tensors of similar length were kept");
    if (values.state == ValueState::lost || !found->place)
      return fail("values_lost",
                  "the values were not copied: the recorder was behind, had used up its budget, or "
                  "was in a CUDA graph");

    const auto size = byte_count(dtypes_.at(entry), count),
               whole = byte_count(dtypes_.at(entry), values.count);
    if (!whole || *whole != found->place->size)
      return fail("record_malformed", "{} values of {} in {} bytes", values.count,
                  trace_name(dtypes_.at(entry)), found->place->size);
    if (count > values.count || !size)
      return fail("values_too_short", "{} values are needed and {} were recorded", count,
                  values.count);

    return read_place(file_, {found->place->offset, static_cast<std::uint32_t>(*size)});
  }

 private:
  struct Kept {
    CallValues values;
    std::optional<Place> place;
  };
  const File& file_;
  std::vector<Kept> values_;
  bool is_replayed_;
  std::map<std::size_t, DType> dtypes_;
};

RecordingCapture::RecordingCapture() : chunk_size_(max_chunk_size) {}
RecordingCapture::~RecordingCapture() = default;

Result<std::string> RecordingCapture::read_place(const File& file, const Place& place) {
  std::string bytes(place.size, 0);
  CW_CHECK(
      read_exactly(file.descriptor, place.offset, bytes.size(), bytes.data(), file.path.string()));
  return bytes;
}

bool RecordingCapture::is_recording(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return path.extension() == extension;
  const auto names = names_in(path);
  return names && !names->empty();
}

Result<std::set<std::string>> RecordingCapture::names_in(const fs::path& folder) {
  std::set<std::string> names;
  CW_CHECK(visit_directory(folder, [&](std::string_view name, bool is_directory) {
    if (!is_directory && name.ends_with(extension) && !is_litter(name)) names.emplace(name);
  }));
  return names;
}

Result<std::unique_ptr<RecordingCapture>> RecordingCapture::open(const std::vector<fs::path>& roots,
                                                                 std::size_t max_tables) {
  auto capture = std::make_unique<RecordingCapture>();
  capture->roots_ = roots;
  capture->max_tables_ = max_tables;
  CW_CHECK(capture->look());
  if (capture->files_.empty())
    return fail("no_recordings", "no recordings (*{}) in {}", extension,
                roots.empty() ? "" : roots[0].string());
  capture->finish();
  return capture;
}

Result<std::unique_ptr<RecordingCapture>> RecordingCapture::follow(const fs::path& folder) {
  CW_CHECK(open_directory(folder));
  auto capture = std::make_unique<RecordingCapture>();
  capture->roots_ = {folder};
  capture->follows_ = true;
  return capture;
}

std::unique_ptr<Capture> RecordingCapture::from_start() const {
  auto again = std::make_unique<RecordingCapture>();
  again->chunk_size_ = max_chunk_size / 8;  // of most files, the beginning is enough
  for (const File& file : files_) again->add_same(file);
  return again;
}

void RecordingCapture::add_same(const File& file) {
  File& same = files_.emplace_back();
  same.path = file.path;
  same.size = file.size;
  same.descriptor = FileDescriptor(::fcntl(file.descriptor.get(), F_DUPFD_CLOEXEC, 3));
  same.is_given_up = !same.descriptor;
}

Result<void> RecordingCapture::add_file(const fs::path& path) {
  constexpr std::size_t few = 500;  // one file per process, and each stays open
  if (!known_.insert(path.native()).second) return {};
  if (files_.size() == few) allow_many_files();
  CW_TRY(FileDescriptor descriptor, open_for_reading(AT_FDCWD, path.string()));
  File& file = files_.emplace_back();
  file.path = path;
  file.descriptor = std::move(descriptor);
  return {};
}

Result<void> RecordingCapture::find_files() {
  for (const fs::path& root : roots_) {
    std::error_code error;
    if (!fs::is_directory(root, error)) {
      CW_CHECK(add_file(fs::absolute(root)));
      continue;
    }
    // Sorted, so that the result does not depend on directory order.
    CW_TRY(const std::set<std::string> names, names_in(root));
    for (const std::string& name : names) {
      const fs::path path = fs::absolute(root) / name;
      if (const auto added = add_file(path); !added)  // the others can be read
        defects_.push_back({"recording_unreadable", added.error().message});
    }
  }
  return {};
}

Result<void> RecordingCapture::look() {
  CW_CHECK(find_files());
  for (File& file : files_) {
    if (file.is_given_up) continue;
    const auto size = file_size(file.descriptor, file.path.string());
    if (size) {
      file.size = *size;
    } else {  // the others can be read
      file.is_given_up = true;
      add_defect(file, "recording_unreadable", size.error().message);
    }
  }
  return {};
}

std::uint64_t RecordingCapture::disk() const {
  std::uint64_t bytes = 0;
  for (const File& file : files_) bytes += file.size;
  return bytes;
}

// ---- Reading ahead

// Only the frames' headers are read: the rest is another thread's.
std::unique_ptr<RecordingCapture::Chunk> RecordingCapture::cut(std::uint32_t number) {
  File& file = files_[number];
  auto chunk = std::make_unique<Chunk>();
  chunk->file = number;
  chunk->offset = file.offset;

  // Small frames have several headers in what is read at once.
  std::array<char, 4096> bytes;
  std::uint64_t bytes_at = 0;
  std::size_t bytes_size = 0;
  while (file.offset < file.size && chunk->size < chunk_size_) {
    const auto size = static_cast<std::size_t>(
        std::min<std::uint64_t>(frame_header_size, file.size - file.offset));
    if (file.offset + size > bytes_at + bytes_size) {
      bytes_at = file.offset;
      bytes_size =
          static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), file.size - file.offset));
      if (const auto read =
              read_exactly(file.descriptor, bytes_at, bytes_size, bytes.data(), file.path.string());
          !read) {
        chunk->unreadable = read.error();
        break;
      }
    }
    const Frame frame = read_frame({bytes.data() + (file.offset - bytes_at), size});
    if (frame.status == Frame::Status::damaged && frame.size == 0) {
      chunk->damaged_at = file.offset;
      break;
    }
    // A frame that is being written, or was when the process was killed.
    if (frame.size == 0 || frame.size > file.size - file.offset) break;
    if (chunk->size > 0 && chunk->size + frame.size > chunk_size_) break;
    chunk->size += frame.size;
    file.offset += frame.size;
  }

  if (chunk->unreadable || chunk->damaged_at) file.is_given_up = true;
  const bool is_empty = chunk->size == 0 && !file.is_given_up;
  return is_empty ? nullptr : std::move(chunk);
}

std::unique_ptr<RecordingCapture::Chunk> RecordingCapture::next_chunk() {
  const auto count = static_cast<std::uint32_t>(files_.size());
  for (std::uint32_t visited = 0; visited < count; ++visited, ++next_file_) {
    next_file_ %= count;
    const File& file = files_[next_file_];
    if (file.is_given_up || file.offset == file.size) continue;
    if (auto chunk = cut(next_file_)) return chunk;
  }
  return nullptr;
}

void RecordingCapture::decode(Chunk& chunk, const File& file) {
  try {
    decode_frames(chunk, file);
  } catch (const std::exception& error) {  // more memory than there is
    chunk.unreadable = Error{"unreadable", fmt::format("{}: {}", file.path.string(), error.what())};
  }
}

void RecordingCapture::decode_frames(Chunk& chunk, const File& file) {
  if (chunk.bytes.size() < chunk.size) chunk.bytes.resize(chunk.size);
  if (const auto read = read_exactly(file.descriptor, chunk.offset, chunk.size, chunk.bytes.data(),
                                     file.path.string());
      !read) {
    chunk.unreadable = read.error();
    return;
  }
  for (std::size_t done = 0; done < chunk.size;) {
    const Frame frame = read_frame(std::string_view(chunk.bytes).substr(done, chunk.size - done));
    if (frame.size == 0) {
      chunk.unreadable =
          Error{"unreadable", fmt::format("{}: changed while it was read", file.path.string())};
      return;
    }
    DecodedFrame& decoded =
        chunk.frames.emplace_back(DecodedFrame{frame.status, frame.payload, chunk.offset + done});
    if (frame.status == Frame::Status::whole && looks_like_calls(frame.payload)) {
      decoded.begin = chunk.groups.groups.size();
      decoded.is_calls = decode_calls(frame.payload, chunk.groups);
      decoded.end = chunk.groups.groups.size();
    }
    done += frame.size;
  }
}

void RecordingCapture::read_ahead() {
  const std::size_t threads =
      tbb::global_control::active_value(tbb::global_control::max_allowed_parallelism);
  while (ahead_.size() < std::min(threads, max_ahead)) {
    auto chunk = next_chunk();
    if (!chunk) return;
    if (!spare_bytes_.empty()) {
      chunk->bytes = std::move(spare_bytes_.back());
      spare_bytes_.pop_back();
    }
    if (!spare_groups_.empty()) {
      chunk->groups = std::move(spare_groups_.back());
      spare_groups_.pop_back();
    }
    Chunk& added = *ahead_.emplace_back(std::move(chunk));
    ++files_[added.file].users;
    const File& file = files_[added.file];
    if (threads > 1)
      added.decoding.run([&added, &file] { decode(added, file); });
    else
      decode(added, file);
  }
}

bool RecordingCapture::fetch() {
  read_ahead();
  if (ahead_.empty()) {
    if (is_finishing_) add_defects_of_ends();
    return false;
  }
  const std::unique_ptr<Chunk> chunk = std::move(ahead_.front());
  ahead_.pop_front();
  chunk->decoding.wait();
  read_ahead();
  take(*chunk);
  if (chunk->bytes.size() <= max_chunk_size) spare_bytes_.push_back(std::move(chunk->bytes));
  stop_using(chunk->file);
  return true;
}

std::size_t RecordingCapture::Tables::memory() const {
  constexpr std::size_t node = 2 * sizeof(void*);
  return functions.size() * 3 * node + extents.capacity() * sizeof(std::int64_t) +
         signatures.size() * (sizeof(*signatures.begin()) + node) +
         values.size() * (sizeof(*values.begin()) + node);
}

void RecordingCapture::stop_using(std::uint32_t number) {
  constexpr std::uint64_t small = 16 << 20;  // read once more in a few hundredths of a second
  File& file = files_[number];
  --file.users;
  const bool is_at_end = file.is_given_up || file.offset == file.size;
  if (file.users > 0 || !is_at_end || follows_ || file.is_read || file.size > small) return;
  file.is_read = true;
  table_bytes_ += file.memory();
  read_.push_back(number);
  forget_tables();
}

void RecordingCapture::forget_tables() {
  while (table_bytes_ > max_tables_ && !read_.empty()) {
    File& file = files_[read_.front()];
    read_.pop_front();
    table_bytes_ -= file.memory();
    static_cast<Tables&>(file) = Tables();
    file.is_forgotten = true;
  }
}

std::shared_ptr<const RecordingCapture> RecordingCapture::reread(std::uint32_t number) const {
  constexpr std::size_t max_files = 32;
  const std::lock_guard lock(reread_->mutex);
  auto& files = reread_->files;
  const auto known = std::ranges::find(files, number, [](const auto& file) { return file.first; });
  if (known != files.end()) {
    files.splice(files.begin(), files, known);
    return files.front().second;
  }

  auto capture = std::make_shared<RecordingCapture>();
  capture->add_same(files_[number]);
  capture->max_tables_ = SIZE_MAX;
  while (capture->fetch()) capture->forget(capture->size());
  capture->spare_bytes_ = {};
  capture->spare_groups_ = {};
  files.emplace_front(number, std::move(capture));
  if (files.size() > max_files) files.pop_back();
  return files.front().second;
}

void RecordingCapture::forget(std::size_t before) {
  while (!blocks_.empty() && blocks_.front().first + blocks_.front().entries.size() <= before) {
    CallGroups& groups = blocks_.front().groups;
    if (spare_groups_.size() < max_ahead && groups.capacity() <= 4 * max_chunk_size) {
      groups.clear();
      spare_groups_.push_back(std::move(groups));
    }
    const std::uint32_t file = blocks_.front().file;
    blocks_.pop_front();
    stop_using(file);
  }
}

// That a file is no longer followed does not mean that its process has ended.
bool RecordingCapture::is_alive(const File& file) {
  if (!file.header ||
      read_pseudo_file("/proc/sys/kernel/random/boot_id").value_or("") != file.header->boot + "\n")
    return false;
  std::error_code error;
  return std::filesystem::exists(fmt::format("/proc/{}", file.header->process), error);
}

void RecordingCapture::add_defects_of_ends() {
  for (File& file : files_) {
    if (std::exchange(file.is_finished, true)) continue;
    if (!file.is_given_up && file.offset < file.size)
      add_defect(
          file, "recording_cut_off",
          fmt::format(
              "its last {} bytes are an incomplete record: the process was killed while writing it",
              file.size - file.offset));
    else if (!file.has_ended && !file.is_idle && !file.is_given_up && !(follows_ && is_alive(file)))
      add_defect(
          file, "recording_not_ended",
          "the process was killed while calls were being made; up to a second of calls may be "
          "missing");
  }
}

void RecordingCapture::add_defect(const File& file, std::string code, std::string message,
                                  std::uint64_t count) {
  const auto [known, is_new] = defect_of_.try_emplace({&file, code}, defects_.size());
  if (is_new)
    defects_.push_back(
        {std::move(code), fmt::format("{}: {}", file.path.string(), message), count});
  else
    defects_[known->second].count += count;
}

// ---- What a chunk says

void RecordingCapture::take(Chunk& chunk) {
  File& file = files_[chunk.file];
  if (file.is_dropped) return;
  Block& block = blocks_.emplace_back();
  block.first = size_;
  block.file = chunk.file;
  block.groups = std::move(chunk.groups);
  block.entries.reserve(block.groups.groups.size());

  for (const DecodedFrame& frame : chunk.frames) {
    if (frame.status != Frame::Status::whole) {  // what follows may be intact
      add_defect(file, "recording_damaged", fmt::format("damaged at byte {}", frame.offset));
      continue;
    }
    const std::uint64_t offset = frame.offset + frame_header_size;
    if (frame.is_calls && file.header) {
      file.is_idle = false;
      take_groups(block, frame.begin, frame.end, offset);
    } else {
      take_payload(block, frame.payload, offset);
    }
    if (file.is_dropped) break;
  }

  if (chunk.unreadable) {
    file.is_given_up = file.is_dropped = true;
    add_defect(file, "recording_unreadable", chunk.unreadable->message);
  }
  if (chunk.damaged_at)
    add_defect(file, "recording_damaged", fmt::format("damaged at byte {}", *chunk.damaged_at));
  size_ += block.entries.size();
  if (block.entries.empty())
    blocks_.pop_back();
  else
    ++file.users;
}

void RecordingCapture::take_payload(Block& block, std::string_view payload, std::uint64_t offset) {
  File& file = files_[block.file];
  if (const auto values = as_values(payload)) return take_values(file, payload, *values, offset);
  if (!is_plain_cbor(payload))
    return add_defect(file, "record_malformed", fmt::format("no record at byte {}", offset));
  take_record(block, payload, offset);
}

void RecordingCapture::take_values(File& file, std::string_view payload, const ValuesRecord& values,
                                   std::uint64_t offset) {
  if (!file.header)
    return add_defect(file, "record_malformed", "values before the recording's first record");
  if (xxh3(payload.substr(values.begin, values.size)) != values.hash)
    return add_defect(file, "record_malformed",
                      fmt::format("values at byte {} that do not match their hash", offset));
  file.values.try_emplace(values.hash,
                          Place{offset + values.begin, static_cast<std::uint32_t>(values.size)});
}

void RecordingCapture::take_record(Block& block, std::string_view payload, std::uint64_t offset) {
  File& file = files_[block.file];
  const CborItem record(payload);
  if (!record.is_map())
    return add_defect(file, "record_malformed", fmt::format("no record at byte {}", offset));
  const auto kind = from_name<RecordKind>(text_of(record, "record"));
  file.is_idle = kind == RecordKind::idle;
  if (!file.header) return take_header(file, record);
  if (!kind) return;  // from a later version

  switch (*kind) {
    case RecordKind::function:
      return take_function(file, record);
    case RecordKind::signature:
      return take_signature(file, record, offset);
    case RecordKind::calls:
      return take_calls(block, payload, offset);
    case RecordKind::end:
      return take_end(file, record);
    case RecordKind::killed:
      return take_killed(file, record);
    case RecordKind::exposed:
      return take_exposed(file);
    case RecordKind::recording:  // once is enough
    case RecordKind::values:     // read elsewhere, in the form that the recorder writes
    case RecordKind::raised:
    case RecordKind::idle:
      return;
  }
}

void RecordingCapture::take_header(File& file, const CborItem& record) {
  const bool is_header = text_of(record, "record") == name(RecordKind::recording);
  const std::uint64_t format = number_of(record, "format");
  if (is_header && format >= 1 && format <= format_version) {
    file.header = Header{printable(text_of(record, "host")), printable(text_of(record, "boot")),
                         number_of(record, "process"), number_of(record, "started")};
    return;
  }
  file.is_given_up = file.is_dropped = true;
  add_defect(file, "recording_unknown",
             is_header ? "of a format that this version does not support" : "no recording");
}

// Each text is parsed once; an empty signature if it cannot be parsed.
std::shared_ptr<const Signature> RecordingCapture::printed_signature(const File& file,
                                                                     std::string_view text) {
  if (const auto known = printed_signatures_.find(text); known != printed_signatures_.end())
    return known->second;
  Result<Signature> parsed =
      text.size() <= max_signature_length && parameters_ < max_parameters
          ? parse_signature(text)
          : fail("signature_malformed", "a signature of {} bytes, or too many", text.size());
  if (!parsed) add_defect(file, parsed.error().code, printable(parsed.error().message));
  auto signature = std::make_shared<const Signature>(parsed ? std::move(*parsed) : Signature{});
  parameters_ += signature->parameters.size() + 1;
  if (parameters_ < max_parameters) printed_signatures_.emplace(text, signature);
  return signature;
}

void RecordingCapture::take_function(File& file, const CborItem& record) {
  const auto number = own_number(record, "site");
  if (!number) return add_defect(file, "record_malformed", "a site without a number");
  if (file.functions.contains(*number))
    return add_defect(file, "record_malformed", "a site with a duplicate number");

  // Most files have the same functions.
  HookedFunction function{
      printable(text_of(record, "function")), printable(text_of(record, "module")),
      printable(text_of(record, "version")), printed_signature(file, text_of(record, "signature"))};
  const Hash128 identity = xxh3(fmt::format("{}\n{}\n{}\n{}", function.name, function.module,
                                            function.version, text_of(record, "signature")));
  const auto [known, is_new] = function_of_.try_emplace(
      identity, static_cast<std::uint32_t>(functions_.size()), std::move(function));
  if (is_new) functions_.push_back(&known->second.second);
  file.functions.emplace(*number, known->second.first);
}

void RecordingCapture::take_signature(File& file, const CborItem& record, std::uint64_t offset) {
  const auto hooked = own_number(record, "site"), signature = own_number(record, "form");
  const auto function = hooked ? file.functions.find(*hooked) : file.functions.end();
  if (!signature || function == file.functions.end())
    return add_defect(file, "record_malformed", "a form of an unknown site");
  const std::string_view encoded = record.encoded();
  if (encoded.size() > max_signature_size)
    return add_defect(file, "record_malformed", "a form of more than 64 KB");

  static thread_local std::vector<ListExtent> lists;
  lists.clear();
  const auto arguments = record.member("arguments");
  if (arguments) find_lists(*arguments, lists);
  const auto* form = form_of(function->second, arguments ? arguments->encoded() : "", lists);
  if (form == nullptr) return add_defect(file, "record_malformed", "a form with another's hash");

  const Place place{offset, static_cast<std::uint32_t>(encoded.size())};
  const auto first_extent = static_cast<std::uint32_t>(file.extents.size());
  if (!file.signatures.try_emplace(*signature, CallSignature{place, first_extent, form}).second)
    return add_defect(file, "record_malformed", "a form with a duplicate number");
  for (const ListExtent& list : lists) file.extents.push_back(list.extent);
}

const std::pair<const Hash128, RecordingCapture::CallForm>* RecordingCapture::form_of(
    std::uint32_t function, std::string_view arguments, std::span<const ListExtent> lists) {
  // Where an extent would be is a byte that begins nothing in CBOR.
  static thread_local std::string text;
  text.clear();
  append_bytes(text, function);
  std::size_t done = 0;
  for (const ListExtent& list : lists) {
    text.append(arguments, done, list.begin - done);
    text += '\xff';
    done = list.begin + list.size;
  }
  text.append(arguments, done);

  CallForm made{function, {}};
  for (const ListExtent& list : lists) made.lists.push_back(list.tensor);
  const auto form = forms_.try_emplace(xxh3(text), made).first;
  return form->second == made ? &*form : nullptr;  // a forged one can have another's hash
}

void RecordingCapture::take_calls(Block& block, std::string_view payload, std::uint64_t offset) {
  const auto calls = CborItem(payload).member("calls");
  if (!calls || !calls->is_array())
    return add_defect(files_[block.file], "record_malformed", "calls without a list");
  const std::size_t begin = block.groups.groups.size();
  parse_calls(payload, block.groups);
  take_groups(block, begin, block.groups.groups.size(), offset);
}

void RecordingCapture::take_groups(Block& block, std::size_t begin, std::size_t end,
                                   std::uint64_t offset) {
  File& file = files_[block.file];
  for (std::size_t i = begin; i < end; ++i) {
    CallGroup& group = block.groups.groups[i];
    if (group.is_malformed) {
      add_defect(file, "record_malformed",
                 "a record of the recording is malformed: " + block.groups.wrong[group.signature]);
      continue;
    }
    const auto signature = file.signatures.find(group.signature);
    if (signature == file.signatures.end()) {
      add_defect(file, "record_malformed", "calls of an unknown form");
      continue;
    }
    if (!has_lengths(file, signature->second, group, block.groups)) {
      add_defect(file, "record_malformed", "calls without the values that tell a list's length");
      continue;
    }
    if (group.count > max_calls - calls_) {
      add_defect(file, "record_malformed", "more calls than can be counted");
      continue;
    }
    calls_ += group.count;

    // Calls that raised become entries of their own.
    group.count -= group.raised;
    for (const bool is_raised : {false, true}) {
      if ((is_raised ? group.raised : group.count) == 0) continue;
      Entry& entry = block.entries.emplace_back(
          Entry{offset, &signature->second, static_cast<std::uint32_t>(i), is_raised});
      identify(file, group, block.groups, entry);
    }
  }
}

bool RecordingCapture::has_lengths(const File& file, const CallSignature& signature,
                                   const CallGroup& group, const CallGroups& groups) {
  const auto& lists = signature.form->second.lists;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    if (file.extents[signature.first_extent + i] != unknown_extent) continue;
    const auto all_values = values_of(group, groups);
    const auto found = std::ranges::find(all_values, lists[i], &CallValues::tensor);
    if (found == all_values.end() || found->hash == Hash128{} ||
        found->count > static_cast<std::uint64_t>(max_list_length))
      return false;
  }
  return true;
}

std::int64_t RecordingCapture::extent_of(const File& file, const CallSignature& signature,
                                         std::size_t list, const CallValues& values) {
  const std::int64_t extent = file.extents[signature.first_extent + list];
  return extent == unknown_extent ? static_cast<std::int64_t>(values.count) : extent;
}

std::optional<RecordingCapture::Place> RecordingCapture::place_of_values(const File& file,
                                                                         const CallValues& values,
                                                                         std::uint64_t before) {
  if (values.state != ValueState::kept) return {};
  const auto found = file.values.find(values.hash);
  if (found == file.values.end() || found->second.offset >= before) return {};
  return found->second;
}

// Of values that were not kept, nothing but how many there were makes a difference, and how long
// their list is: that is told apart.
void RecordingCapture::identify(const File& file, const CallGroup& group, const CallGroups& groups,
                                Entry& entry) {
  static thread_local std::string text;
  text.clear();
  append_bytes(text, entry.signature->form->first.high);
  append_bytes(text, entry.signature->form->first.low);
  append_bytes(text, group.sequences);
  text += {static_cast<char>(group.is_dummy), static_cast<char>(group.is_nested),
           static_cast<char>(group.is_replayed), static_cast<char>(entry.is_raised)};

  const auto all_values = values_of(group, groups);
  const auto& lists = entry.signature->form->second.lists;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    const auto found = std::ranges::find(all_values, lists[i], &CallValues::tensor);
    const std::int64_t extent = found == all_values.end()
                                    ? file.extents[entry.signature->first_extent + i]
                                    : extent_of(file, *entry.signature, i, *found);
    const bool is_told = found != all_values.end() && found->hash != Hash128{} &&
                         !place_of_values(file, *found, entry.window) && extent >= 2;
    append_bytes(text, is_told ? unknown_extent : extent);
  }

  for (const CallValues& values : all_values) {
    const bool kept = place_of_values(file, values, entry.window).has_value();
    const ValueState state =
        !kept && values.state == ValueState::kept ? ValueState::lost : values.state;
    append_bytes(text, values.tensor);
    text += {static_cast<char>(state), static_cast<char>(values.hash != Hash128{}),
             static_cast<char>(values.is_packed)};
    entry.lacks_values = entry.lacks_values || !kept;
    if (!kept) continue;
    append_bytes(text, values.hash.high);
    append_bytes(text, values.hash.low);
    append_bytes(text, values.count);
    append_bytes(text, values.from);
  }
  entry.identity = xxh3(text);
}

void RecordingCapture::add_calls_over_budget(File& file, const CborItem& record) {
  if (const std::uint64_t count = number_of(record, "calls_over_budget"); count > 0)
    add_defect(file, "calls_over_budget",
               fmt::format("{} calls that are not itemized: --record-budget was used up", count));
}

void RecordingCapture::take_end(File& file, const CborItem& record) {
  file.has_ended = true;
  add_calls_over_budget(file, record);
  for (const auto& [counter, text] :
       {std::pair("events_lost",
                  "calls that the recorder could not count, because it was too far behind"),
        std::pair("values_lost",
                  "calls whose index tensors were not copied: the recorder was behind, "
                  "--record-budget was used up, or they have "
                  "a layout that is not copied")})
    if (const std::uint64_t count = number_of(record, counter); count > 0)
      add_defect(file, counter, fmt::format("{} {}", count, text));
}

void RecordingCapture::take_exposed(File& file) {
  add_defect(file, "graph_exposed",
             "a CUDA graph with recorded calls whose handle the engine took (raw_cuda_graph): "
             "where it launches the graph with that (cudaGraphLaunch), the calls are missing");
}

// Written after the process ended, by the one that started it.
void RecordingCapture::take_killed(File& file, const CborItem& record) {
  if (std::exchange(file.has_ended, true)) return;
  for (const auto& [counter, code, text] :
       {std::tuple("calls", "calls_lost",
                   "the process's last calls are missing: it was killed, or called os._exit"),
        std::tuple("replays", "replays_lost",
                   "the process's last CUDA graph replays are missing: it was killed, "
                   "or called os._exit")})
    if (const std::uint64_t count = std::min(number_of(record, counter), max_lost); count > 0)
      add_defect(file, code, fmt::format("{} {}", count, text), count);
  add_calls_over_budget(file, record);
}

// ---- Entries

RecordingCapture::Found RecordingCapture::find(std::size_t index) const {
  const auto after =
      std::upper_bound(blocks_.begin(), blocks_.end(), index,
                       [](std::size_t wanted, const Block& block) { return wanted < block.first; });
  const Block& block = *std::prev(after);
  return {block, block.entries[index - block.first]};
}

WrapperId RecordingCapture::process_of(std::uint32_t file) const {
  return {file, static_cast<std::int64_t>(files_[file].header->process), 0};
}

Sighting RecordingCapture::sighting(std::size_t index) const {
  const Found found = find(index);
  const CallGroup& group = found.group();
  WrapperId wrapper = process_of(found.block.file);
  wrapper.self = group.wrapper;
  return {.function = found.entry.signature->function(),
          .wrapper = wrapper,
          .count = found.entry.is_raised ? group.raised : group.count,
          .identity = found.entry.identity};
}

CallPlace RecordingCapture::place_of(const Found& found) {
  const CallGroup& group = found.group();
  return {.source = found.block.file,
          .form = group.signature,
          .at = found.entry.window,
          .inner = group.begin << 1 | static_cast<std::uint32_t>(found.entry.is_raised),
          .size = group.size,
          .form_at = found.entry.signature->place.offset};
}

std::string RecordingCapture::location(const CallPlace& place) const {
  return fmt::format("{}, form {} at byte {}", files_[place.source].path.string(), place.form,
                     place.at);
}

// From the first recording: it stays first as the run continues and more processes join.
std::string RecordingCapture::id() const {
  if (files_.empty()) return uuid_v5("capture without calls");
  const auto& header = files_.front().header;
  if (!header) return uuid_v5("recording\n" + files_.front().path.filename().string());
  return uuid_v5(fmt::format("recording\n{}\n{}\n{}\n{}", header->host, header->boot,
                             header->process, header->started));
}

Result<std::shared_ptr<const CallContent>> RecordingCapture::read_content(
    const CallPlace& place, const CallSignature& signature, const CallGroup& group,
    const CallGroups& groups) const {
  const File& file = files_[place.source];
  const auto located = [&](const Error& error) {
    return Error{error.code, location(place) + ": " + error.message};
  };
  CW_TRY(const std::string payload, read_place(file, signature.place));
  const auto member = is_plain_cbor(payload) ? CborItem(payload).member("arguments") : std::nullopt;
  if (!member) return fail("record_malformed", "{}: the form no longer exists", location(place));

  const HookedFunction& hooked = *functions_[signature.function()];
  CallContent content{
      .function = hooked.name,
      .module = hooked.module,
      .flashinfer_version = hooked.module.starts_with("flashinfer") ? hooked.version : "",
      .signature = hooked.signature};
  CW_TRY(content.arguments, parse_arguments(*member).map_error(located));

  // Connects tensors to their values.
  const auto store =
      std::make_shared<Values>(file, values_of(group, groups), place.at, group.is_replayed);
  const auto connect = [&store](const auto& self, Value& value) -> void {
    if (auto* tensor = std::get_if<Tensor>(&value.data)) {
      store->add(tensor->entry, tensor->dtype);
      tensor->store = store;
    } else if (auto* sequence = std::get_if<Sequence>(&value.data)) {
      for (Value& item : sequence->items) self(self, item);
    }
  };
  for (auto& [name, value] : content.arguments) connect(connect, value);
  return share(std::move(content));
}

Call RecordingCapture::call_of(std::uint32_t file, const CallGroup& group, const CallGroups& groups,
                               bool is_raised) const {
  Call call;
  call.status = group.is_dummy ? CallStatus::dummy
                : is_raised    ? CallStatus::unfinished
                               : CallStatus::completed;
  call.is_nested = group.is_nested;
  call.wrapper = process_of(file);
  call.wrapper.self = group.wrapper;
  call.count = is_raised ? group.raised : group.count;
  if (group.sequences >= 0) call.sequences = group.sequences;
  const auto addresses = addresses_of(group, groups);
  call.addresses.assign(addresses.begin(), addresses.end());
  return call;
}

void RecordingCapture::tell_counts(const File& file, const CallSignature& signature,
                                   const CallGroup& group, const CallGroups& groups, Call& call) {
  const auto& lists = signature.form->second.lists;
  for (const CallValues& values : values_of(group, groups)) {
    // Of a page table, the count is known from the lengths.
    const bool is_known = values.hash != Hash128{} || values.is_packed;
    if (!is_known || call.told_of(values.tensor) != nullptr) continue;
    ToldCount& told = call.told.emplace_back(ToldCount{values.tensor, values.used()});
    told.is_packed = values.is_packed;
    told.has_values = place_of_values(file, values, call.place.at).has_value();
    if (const auto list = std::ranges::find(lists, values.tensor); list != lists.end()) {
      const auto number = static_cast<std::size_t>(list - lists.begin());
      told.extent = extent_of(file, signature, number, values);
    }
  }
}

Result<Call> RecordingCapture::read(std::size_t index) const {
  const Found found = find(index);
  Call call = call_of(found.block.file, found.group(), found.block.groups, found.entry.is_raised);
  call.lacks_values = found.entry.lacks_values;
  call.identity = found.entry.identity;
  call.order = index;
  call.place = place_of(found);
  tell_counts(files_[found.block.file], *found.entry.signature, found.group(), found.block.groups,
              call);

  // Calls of one identity share their content.
  {
    const std::lock_guard lock(contents_->mutex);
    if (const auto known = contents_->known.find(call.identity); known != contents_->known.end()) {
      CW_TRY(call.content, known->second);
      return call;
    }
  }
  auto content =
      read_content(call.place, *found.entry.signature, found.group(), found.block.groups);

  const std::lock_guard lock(contents_->mutex);
  constexpr std::size_t others = 512, a_value = 64;  // per content, per tensor with values
  const std::size_t size =
      others + a_value * found.group().values + (content ? (*content)->memory : 0);
  if (contents_->bytes + size > max_cached_bytes) {
    contents_->known.clear();
    contents_->bytes = 0;
  }
  // That it could not be read may pass.
  const bool is_final = content || content.error().code == "record_malformed";
  if (is_final && contents_->known.emplace(call.identity, content).second) contents_->bytes += size;
  CW_TRY(call.content, std::move(content));
  return call;
}

Result<Call> RecordingCapture::read_again(const CallPlace& place) const {
  const File& file = files_[place.source];
  if (file.is_forgotten) {
    const auto again = reread(place.source);
    CallPlace same = place;
    same.source = 0;
    CW_TRY(Call call, again->read_again(same));
    call.place = place;
    call.wrapper.folder = place.source;
    call.lease = again;
    return call;
  }

  const std::uint32_t begin = place.inner >> 1;
  CW_TRY(const std::string encoded, read_place(file, {place.at + begin, place.size}));
  CallGroups groups;
  const auto signature = file.signatures.find(place.form);
  if (!parse_group(encoded, groups) || signature == file.signatures.end())
    return fail("capture_changed", "{}: the call is no longer there", location(place));
  CallGroup& group = groups.groups[0];
  group.count -= group.raised;

  Call call = call_of(place.source, group, groups, (place.inner & 1) != 0);
  call.place = place;
  tell_counts(file, signature->second, group, groups, call);
  CW_TRY(call.content, read_content(place, signature->second, group, groups));
  return call;
}

}  // namespace cw::recording
