#include "capture/recorder/recording_capture.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include <fcntl.h>

#include "base/console.h"
#include "base/hash.h"
#include "recording/frame.h"
#include "recording/records.h"

namespace cw::recording {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t chunk = 8 << 20;
constexpr std::size_t max_cached_bytes = 32 << 20;    ///< of forms, by size in memory
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

}  // namespace

// The values of one call's tensors, read from the recording when they are asked for.
class RecordingCapture::Values final : public TensorStore {
 public:
  Values(const File& file, const CallGroup& group)
      : file_(file), values_(group.values), is_replayed_(group.is_replayed) {}

  void add(std::size_t entry, DType dtype) { dtypes_.emplace(entry, dtype); }

  Result<std::string> read(std::size_t entry, std::uint64_t count) const override {
    const auto values =
        std::ranges::find_if(values_, [entry](const CallValues& v) { return v.tensor == entry; });

    // If there are none, say why.
    if (values == values_.end() && is_replayed_)
      return fail("values_in_graph",
                  "made in a replay of a CUDA graph, where values cannot be read; only eager steps "
                  "give them");
    if (values == values_.end())
      return fail("values_not_recorded",
                  "the recorder does not record values of this tensor: it records those of index "
                  "tensors that a "
                  "binding names, and floats only with --keep-values");
    if (values->state == ValueState::sampled_out)
      return fail("values_sampled_out",
                  "enough other calls with index tensors of similar length were kept");
    const auto place = file_.values.find(values->hash);
    if (values->state == ValueState::lost || place == file_.values.end())
      return fail("values_lost",
                  "the values were not copied: the recorder was behind, had used up its budget, or "
                  "was in a "
                  "CUDA graph");

    const auto size = byte_count(dtypes_.at(entry), count),
               whole = byte_count(dtypes_.at(entry), values->count);
    if (!whole || *whole != place->second.size)
      return fail("record_malformed", "{} values of {} in {} bytes", values->count,
                  trace_name(dtypes_.at(entry)), place->second.size);
    if (count > values->count || !size)
      return fail("values_too_short", "{} values are needed and {} were recorded", count,
                  values->count);

    return read_place(file_, {place->second.offset, static_cast<std::uint32_t>(*size)});
  }

 private:
  const File& file_;
  std::vector<CallValues> values_;
  bool is_replayed_;
  std::map<std::size_t, DType> dtypes_;
};

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

Result<std::unique_ptr<RecordingCapture>> RecordingCapture::open(
    const std::vector<fs::path>& roots) {
  auto capture = std::make_unique<RecordingCapture>();
  capture->roots_ = roots;
  CW_CHECK(capture->poll());
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
  capture->forgets_ = true;
  return capture;
}

Result<void> RecordingCapture::add_file(const fs::path& path) {
  constexpr std::size_t few = 500;  // one file per process, and each stays open
  if (!known_.insert(path.native()).second) return {};
  if (files_.size() == few) allow_many_files();
  CW_TRY(FileDescriptor descriptor, open_for_reading(AT_FDCWD, path.string()));
  CW_CHECK(file_size(descriptor, path.string()));  // it is a regular file
  files_.push_back({.path = path, .descriptor = std::move(descriptor)});
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

Result<bool> RecordingCapture::poll(Deadline deadline) {
  forget_released();
  CW_CHECK(find_files());
  const auto count = static_cast<std::uint32_t>(files_.size());
  for (std::uint32_t visited = 0; visited < count; ++visited) {
    next_file_ %= count;
    auto all = advance(next_file_, deadline);
    if (!all) {  // the others can be read
      files_[next_file_].is_given_up = true;
      add_defect(files_[next_file_], "recording_unreadable", all.error().message);
    } else if (!*all) {
      return false;
    }
    ++next_file_;
  }
  return true;
}

Result<bool> RecordingCapture::advance(std::uint32_t number, Deadline deadline) {
  File& file = files_[number];
  if (file.is_given_up) return true;
  CW_TRY(const std::uint64_t size, file_size(file.descriptor, file.path.string()));

  std::string buffer;
  std::size_t wanted = chunk;
  while (file.offset < size) {
    buffer.resize(static_cast<std::size_t>(std::min<std::uint64_t>(wanted, size - file.offset)));
    CW_CHECK(read_exactly(file.descriptor, file.offset, buffer.size(), buffer.data(),
                          file.path.string()));

    std::size_t done = 0;
    Frame frame = read_frame(buffer);
    for (; frame.status != Frame::Status::cut_off;
         frame = read_frame(std::string_view(buffer).substr(done))) {
      if (frame.status == Frame::Status::whole)
        take(number, frame.payload, file.offset + done + frame_header_size);
      else
        add_defect(file, "recording_damaged",
                   fmt::format("damaged at byte {}", file.offset + done));
      // If the length still makes sense, what follows may be intact.
      if (frame.size == 0) file.is_given_up = true;
      if (file.is_given_up) return true;
      done += frame.size;
    }
    file.offset += done;
    wanted = std::max(chunk, frame.size);  // a frame larger than the buffer
    const bool is_rest = done == 0 && buffer.size() == size - file.offset;
    if (is_rest) return true;  // of a frame still being written
    if (std::chrono::steady_clock::now() > deadline) return false;
  }
  return true;
}

std::uint64_t RecordingCapture::disk() const {
  std::uint64_t bytes = 0;
  for (const File& file : files_)
    bytes += file_size(file.descriptor, file.path.string()).value_or(0);
  return bytes;
}

// That a file is no longer followed does not mean that its process has ended.
bool RecordingCapture::is_alive(const File& file) {
  if (!file.header ||
      read_pseudo_file("/proc/sys/kernel/random/boot_id").value_or("") != file.header->boot + "\n")
    return false;
  std::error_code error;
  return std::filesystem::exists(fmt::format("/proc/{}", file.header->process), error);
}

void RecordingCapture::finish() {
  for (File& file : files_) {
    if (std::exchange(file.is_finished, true)) continue;
    const auto size = file_size(file.descriptor, file.path.string());
    if (size && !file.is_given_up && file.offset < *size)
      add_defect(
          file, "recording_cut_off",
          fmt::format(
              "its last {} bytes are an incomplete record: the process was killed while writing it",
              *size - file.offset));
    else if (!file.has_ended && !file.is_idle && !file.is_given_up && !(forgets_ && is_alive(file)))
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

void RecordingCapture::release(std::size_t index) const {
  if (!forgets_) return;
  const std::lock_guard lock(shared_->mutex);
  shared_->released.push_back(index);
}

// From the front, up to the first that is not released.
void RecordingCapture::forget_released() {
  const std::lock_guard lock(shared_->mutex);
  for (const std::size_t index : shared_->released)
    if (index >= forgotten_) entries_[index - forgotten_].is_released = true;
  shared_->released.clear();
  for (; !entries_.empty() && entries_.front().is_released; ++forgotten_) entries_.pop_front();
}

void RecordingCapture::take(std::uint32_t number, std::string_view payload, std::uint64_t offset) {
  File& file = files_[number];
  if (const auto values = as_values(payload)) return take_values(file, payload, *values, offset);
  if (!is_plain_cbor(payload))
    return add_defect(file, "record_malformed", fmt::format("no record at byte {}", offset));
  take_record(number, CborItem(payload), offset);
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

void RecordingCapture::take_record(std::uint32_t number, const CborItem& record,
                                   std::uint64_t offset) {
  File& file = files_[number];
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
      return take_calls(number, record, offset);
    case RecordKind::end:
      return take_end(file, record);
    case RecordKind::killed:
      return take_killed(file, record);
    case RecordKind::recording:  // once is enough
    case RecordKind::values:     // read elsewhere, in the form that the recorder writes
    case RecordKind::raised:
    case RecordKind::idle:
      return;
  }
}

void RecordingCapture::take_header(File& file, const CborItem& record) {
  const bool is_header = text_of(record, "record") == name(RecordKind::recording);
  if (is_header && number_of(record, "format") == format_version) {
    file.header = Header{printable(text_of(record, "host")), printable(text_of(record, "boot")),
                         number_of(record, "process"), number_of(record, "started")};
    return;
  }
  file.is_given_up = true;
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
  file.functions[*number] = {
      printable(text_of(record, "function")), printable(text_of(record, "module")),
      printable(text_of(record, "version")), printed_signature(file, text_of(record, "signature"))};
}

void RecordingCapture::take_signature(File& file, const CborItem& record, std::uint64_t offset) {
  const auto hooked = own_number(record, "site"), signature = own_number(record, "form");
  if (!hooked || !signature || !file.functions.contains(*hooked))
    return add_defect(file, "record_malformed", "a form of an unknown site");
  if (record.encoded().size() > max_signature_size)
    return add_defect(file, "record_malformed", "a form of more than 64 KB");
  const Place place{offset, static_cast<std::uint32_t>(record.encoded().size())};
  if (!file.signatures.try_emplace(*signature, CallSignature{place, *hooked}).second)
    add_defect(file, "record_malformed", "a form with a duplicate number");
}

void RecordingCapture::take_calls(std::uint32_t number, const CborItem& record,
                                  std::uint64_t offset) {
  File& file = files_[number];
  const auto calls = record.member("calls");
  if (!calls || !calls->is_array())
    return add_defect(file, "record_malformed", "calls without a list");
  calls->for_each([&](const CborItem& item) {
    auto group = parse_group(item);
    if (!group) return add_defect(file, group.error().code, group.error().message);
    if (!file.signatures.contains(group->signature))
      return add_defect(file, "record_malformed", "calls of an unknown form");
    if (group->count > max_calls - calls_)
      return add_defect(file, "record_malformed", "more calls than can be counted");
    calls_ += group->count;

    // Calls that raised become entries of their own.
    CallGroup raised = group->raised > 0 ? *group : CallGroup{};
    raised.count = group->raised;
    group->count -= group->raised;
    group->raised = 0;
    if (group->count > 0) entries_.push_back({number, offset, std::move(*group)});
    if (raised.count > 0) entries_.push_back({number, offset, std::move(raised)});
  });
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

const std::string& RecordingCapture::function(std::size_t index) const {
  static const std::string forgotten;
  if (index < forgotten_) return forgotten;
  const File& file = files_[entry(index).file];
  return file.functions.at(file.signatures.at(entry(index).group.signature).function).name;
}

WrapperId RecordingCapture::process(std::size_t index) const {
  const std::uint32_t file = entry(index).file;
  return {file, static_cast<std::int64_t>(files_[file].header->process), 0};
}

std::string RecordingCapture::location(std::size_t index) const {
  if (index < forgotten_) return {};
  const Entry& found = entry(index);
  return fmt::format("{}, form {} at byte {}", files_[found.file].path.string(),
                     found.group.signature, found.window);
}

// From the first recording: it stays first as the run continues and more processes join.
std::string RecordingCapture::id() const {
  if (files_.empty()) return uuid_v5("capture without calls");
  const auto& header = files_.front().header;
  if (!header) return uuid_v5("recording\n" + files_.front().path.filename().string());
  return uuid_v5(fmt::format("recording\n{}\n{}\n{}\n{}", header->host, header->boot,
                             header->process, header->started));
}

Result<std::shared_ptr<const RecordingCapture::Arguments>> RecordingCapture::arguments_of(
    std::size_t index) const {
  const Entry& found = entry(index);
  const File& file = files_[found.file];
  const std::uint64_t key = std::uint64_t{found.file} << 32 | found.group.signature;
  {
    const std::lock_guard lock(shared_->mutex);
    if (const auto known = shared_->arguments.find(key); known != shared_->arguments.end())
      return known->second;
  }
  CW_TRY(const std::string payload,
         read_place(file, file.signatures.at(found.group.signature).place));
  const auto member = is_plain_cbor(payload) ? CborItem(payload).member("arguments") : std::nullopt;
  if (!member) return fail("record_malformed", "{}: the form no longer exists", location(index));
  CW_TRY(auto parsed, parse_arguments(*member).map_error([&](Error error) {
    return Error{error.code, location(index) + ": " + error.message};
  }));
  auto arguments = std::make_shared<const Arguments>(std::move(parsed));

  const std::lock_guard lock(shared_->mutex);
  const std::size_t size = memory_of(*arguments);
  if (shared_->cached_bytes + size > max_cached_bytes) {
    shared_->arguments.clear();
    shared_->cached_bytes = 0;
  }
  if (shared_->arguments.emplace(key, arguments).second) shared_->cached_bytes += size;
  return arguments;
}

Result<Call> RecordingCapture::read(std::size_t index) const {
  const File& file = files_[entry(index).file];
  const CallGroup& group = entry(index).group;
  const HookedFunction& hooked = file.functions.at(file.signatures.at(group.signature).function);
  CW_TRY(const auto arguments, arguments_of(index));

  Call call;
  call.function = hooked.name;
  call.module = hooked.module;
  call.status = group.is_dummy     ? CallStatus::dummy
                : group.raised > 0 ? CallStatus::unfinished
                                   : CallStatus::completed;
  call.is_nested = group.is_nested;
  call.wrapper = process(index);
  call.wrapper.self = group.wrapper;
  call.order = index;
  call.count = group.count;
  if (group.sequences >= 0) call.sequences = group.sequences;
  call.flashinfer_version = hooked.module.starts_with("flashinfer") ? hooked.version : "";
  call.signature = hooked.signature;
  call.arguments = *arguments;
  if (forgets_)
    call.lease = std::shared_ptr<const void>(this, [this, index](const void*) { release(index); });

  // Connects tensors to their values, and shows which are the same tensor.
  const auto store = std::make_shared<Values>(file, group);
  const auto connect = [&](const auto& self, Value& value) -> void {
    if (auto* tensor = std::get_if<Tensor>(&value.data)) {
      if (tensor->entry < group.addresses.size()) tensor->address = group.addresses[tensor->entry];
      const auto values = std::ranges::find_if(
          group.values, [tensor](const CallValues& v) { return v.tensor == tensor->entry; });
      if (values != group.values.end() && values->hash != Hash128{})
        tensor->used = values->count - std::min(values->from, values->count);
      store->add(tensor->entry, tensor->dtype);
      tensor->store = store;
    } else if (auto* sequence = std::get_if<Sequence>(&value.data)) {
      for (Value& item : sequence->items) self(self, item);
    }
  };
  for (auto& [name, value] : call.arguments) connect(connect, value);
  return call;
}

}  // namespace cw::recording
