#include "capture/level10/dump_capture.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <mutex>
#include <numeric>
#include <set>
#include <shared_mutex>
#include <tuple>
#include <unordered_map>

#include <fmt/compile.h>

#include "base/hash.h"
#include "capture/level10/metadata.h"
#include "capture/level10/session.h"
#include "capture/level10/tensor_file.h"

namespace cw::level10 {
namespace {

constexpr std::size_t padding = 64;               // what the JSON parser may read past the end
constexpr std::uint64_t max_metadata = 64 << 20;  // grows with every flush of a captured call
constexpr int max_folder_depth = 8;

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

template <typename Integer>
bool take_digits(std::string_view& text, std::size_t at_least, Integer& value) {
  if (text.empty() || text[0] == '-') return false;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  const auto digits = static_cast<std::size_t>(parsed.ptr - text.data());
  if (parsed.ec != std::errc() || digits < at_least) return false;
  text.remove_prefix(digits);
  return true;
}

// Signatures repeat: one text per function and version. Parsed once, shared by all its calls.
Result<std::shared_ptr<const Signature>> shared_signature(const std::string& text) {
  static std::shared_mutex mutex;
  static std::unordered_map<std::string, std::shared_ptr<const Signature>> known;
  constexpr std::size_t max_known = 10'000;  // bounds a damaged capture; a real one has dozens
  {
    const std::shared_lock lock(mutex);
    if (const auto found = known.find(text); found != known.end()) return found->second;
  }
  CW_TRY(Signature parsed, parse_signature(text));
  auto signature = std::make_shared<const Signature>(std::move(parsed));
  const std::unique_lock lock(mutex);
  if (known.size() < max_known) known.emplace(text, signature);
  return signature;
}

// Turns a record's values into arguments whose tensors can be read.
class Assembler {
 public:
  Assembler(const Record& record, std::shared_ptr<const TensorFile> file)
      : record_(record), file_(std::move(file)) {}

  Result<std::vector<std::pair<std::string, Value>>> arguments(const Signature& signature) {
    std::vector<std::pair<std::string, Value>> result;
    result.reserve(record_.inputs.size() + record_.tensors.size());
    const bool method = record_.self != 0;
    for (const auto& [key, recorded] : record_.inputs) {
      if (method && key == "arg_0") continue;
      CW_TRY(std::string name, parameter(key, signature));
      CW_TRY(Value value, this->value(recorded));
      result.emplace_back(std::move(name), std::move(value));
    }
    // Top-level tensors are in tensor_details only; so are nested ones, under keys with "__", and
    // outputs.
    for (const TensorDetail& detail : record_.tensors) {
      if (detail.key.starts_with("result") || detail.key.find("__") != std::string::npos) continue;
      CW_TRY(std::string name, parameter(detail.key, signature));
      CW_TRY(Tensor tensor, this->tensor(detail.key));
      result.emplace_back(std::move(name), Value{std::move(tensor)});
    }
    return result;
  }

 private:
  static Result<std::string> parameter(std::string_view key, const Signature& signature) {
    if (take(key, "kwarg_")) return std::string(key);
    std::size_t index = 0;
    if (!take(key, "arg_") || !take_digits(key, 1, index) || !key.empty())
      return fail("metadata_malformed", "an argument's name is neither arg_N nor kwarg_NAME");
    return signature.positional(index);
  }

  Result<Tensor> tensor(const std::string& key) const {
    const auto entry = file_ ? file_->find(key) : std::nullopt;
    if (!entry)
      return fail("tensors_missing", "the record names tensor {}, which no inputs file contains",
                  key);
    const TensorFileEntry& found = file_->entries()[*entry];
    const auto detail = std::ranges::find_if(
        record_.tensors, [&key](const TensorDetail& d) { return d.key == key; });
    if (detail != record_.tensors.end() &&
        (detail->shape != found.shape || dtype_from_torch(detail->dtype) != found.dtype))
      return fail("metadata_disagrees",
                  "tensor {} is {} {} in the record, {} {} in the inputs file", key, detail->dtype,
                  to_string(detail->shape), trace_name(found.dtype), to_string(found.shape));
    return Tensor{found.dtype, found.shape, file_, *entry};
  }

  Result<Value> value(const RecordedValue& recorded) const {
    if (const auto* key = std::get_if<TensorKey>(&recorded.data)) {
      CW_TRY(Tensor tensor, this->tensor(key->key));
      return Value{std::move(tensor)};
    }

    if (const auto* sequence = std::get_if<RecordedSequence>(&recorded.data)) {
      Sequence items{.items = {}, .truncated = sequence->truncated};
      items.items.reserve(sequence->items.size());
      for (const RecordedValue& item : sequence->items) {
        CW_TRY(Value value, this->value(item));
        items.items.push_back(std::move(value));
      }
      return Value{std::move(items)};
    }

    if (const auto* number = std::get_if<RecordedEnum>(&recorded.data))
      return Value{Enumerator{number->name, number->value}};
    if (const auto* opaque = std::get_if<RecordedOpaque>(&recorded.data))
      return Value{Opaque{opaque->type, opaque->text}};

    if (const auto* flag = std::get_if<bool>(&recorded.data)) return Value{*flag};
    if (const auto* integer = std::get_if<std::int64_t>(&recorded.data)) return Value{*integer};
    if (const auto* real = std::get_if<double>(&recorded.data)) return Value{*real};
    if (const auto* text = std::get_if<std::string>(&recorded.data)) return Value{*text};
    return Value{};
  }

  const Record& record_;
  std::shared_ptr<const TensorFile> file_;
};

CallStatus status_of(const Record& record) {
  // Flushes of a captured call end in "completed" too; only graph_capture tells them apart.
  if (record.graph_capture) return CallStatus::captured;
  return record.status == "completed" ? CallStatus::completed : CallStatus::unfinished;
}

}  // namespace

Result<DumpCapture> DumpCapture::open(const std::vector<std::filesystem::path>& roots) {
  DumpCapture capture;
  std::set<std::filesystem::path> folders;
  std::map<std::filesystem::path, std::vector<std::string>> single_calls;  // keyed by dump folder

  for (const auto& root : roots) {
    std::error_code error;
    const auto path = std::filesystem::canonical(root, error);
    if (error) return fail("not_found", "{}: {}", root.string(), error.message());
    std::string_view function;
    const std::string name = path.filename().string();
    if (parse_name(name, function))
      single_calls[path.parent_path()].push_back(name);
    else if (name != "session.jsonl")
      folders.insert(path);  // matched by DIR/* too
  }

  // Whole folders, and calls that were named individually.
  for (const auto& folder : folders) CW_CHECK(capture.list(folder, 0));
  for (const auto& [folder, calls] : single_calls)
    if (capture.listed_.insert(folder).second)
      if (const auto number = capture.add_folder(folder, false))
        for (const std::string& call : calls) {
          std::string_view function;
          if (const auto entry = parse_name(call, function))
            capture.add_call(*entry, function, *number);
        }

  if (capture.entries_.empty())
    return fail("no_dumps",
                "{}: no call folders (names like 20260101_120000_000_pid42_rmsnorm_call0001) in it "
                "or below",
                roots.front().string());

  capture.sort();
  capture.find_missing();
  capture.settle_ties();
  return capture;
}

Result<DumpCapture> DumpCapture::follow(const std::filesystem::path& folder, Disposal disposal) {
  DumpCapture capture;
  capture.deletes_ = disposal == Disposal::remove;
  if (!capture.add_folder(folder, true))
    return fail("unreadable", "{}: cannot be read", folder.string());
  return capture;
}

bool DumpCapture::append(std::string_view name, bool is_next_missing) {
  std::string_view function;
  auto entry = parse_name(name, function);
  if (!entry) return false;
  entry->is_next_missing = is_next_missing;
  if (first_name_.empty()) first_name_ = name;
  if (deletes_) {
    entry->kilobytes = static_cast<std::uint32_t>(disk_usage(folders_[0].path / name) / 1024);
    *kilobytes_ += entry->kilobytes;
  }
  add_call(*entry, function, 0);
  return true;
}

void DumpCapture::forget_released() {
  for (; !entries_.empty() && entries_.front().is_released != 0; ++forgotten_) entries_.pop_front();
}

void DumpCapture::visit_names(const std::function<void(const std::string&)>& visit) const {
  for (const Entry& entry : entries_) visit(name(entry));
}

// FlashInfer names a method after its object's class: "MyBatchDecodeWithPagedKVCacheWrapper.run" is
// the wrapper's, as far as a subclass's name shows it.
std::string DumpCapture::of_base_class(std::string_view function) {
  constexpr std::array<std::string_view, 4> wrappers{
      "BatchDecodeWithPagedKVCacheWrapper", "BatchPrefillWithPagedKVCacheWrapper",
      "BatchPrefillWithRaggedKVCacheWrapper", "BatchMLAPagedAttentionWrapper"};
  const std::size_t dot = function.find('.');
  if (dot != std::string_view::npos)
    for (const std::string_view wrapper : wrappers)
      if (function.substr(0, dot).find(wrapper) != std::string_view::npos)
        return std::string(wrapper) + std::string(function.substr(dot));
  return std::string(function);
}

std::optional<DumpCapture::CallName> DumpCapture::call_name(std::string_view name) {
  std::string_view function;
  const auto entry = parse_name(name, function);
  if (!entry) return std::nullopt;
  return CallName{entry->process, std::string(function), entry->sequence};
}

std::optional<std::int64_t> DumpCapture::process_of(std::string_view name) {
  std::string_view function;
  const auto entry = parse_name(name, function);
  if (!entry) return std::nullopt;
  return entry->process;
}

void DumpCapture::release(std::size_t index) const {
  if (!deletes_ || !*deletes_still_) return;
  const Entry& released = entry(index);
  if (std::atomic_ref(released.is_released).exchange(1) != 0) return;
  std::error_code error;  // may be gone already; what cannot be deleted stays in the sum
  std::filesystem::remove_all(folders_[released.folder].path / name(released), error);
  if (!error) *kilobytes_ -= released.kilobytes;
}

std::optional<DumpCapture::Entry> DumpCapture::parse_name(std::string_view name,
                                                          std::string_view& function) {
  Entry entry{};
  std::int64_t day = 0, time = 0, milliseconds = 0;
  if (!take_digits(name, 8, day) || !take(name, "_") || !take_digits(name, 6, time) ||
      !take(name, "_") || !take_digits(name, 3, milliseconds) || !take(name, "_pid") ||
      !take_digits(name, 1, entry.process) || !take(name, "_"))
    return std::nullopt;
  if (day > 99'999'999 || time > 999'999 || milliseconds > 999) return std::nullopt;
  const std::size_t tail = name.rfind("_call");
  if (tail == std::string_view::npos || tail == 0) return std::nullopt;
  function = name.substr(0, tail);
  std::string_view digits = name.substr(tail + 5);
  entry.digits = static_cast<std::uint8_t>(digits.size());
  if (digits.size() > 10 || !take_digits(digits, 1, entry.sequence) || !digits.empty())
    return std::nullopt;
  entry.time = (day * 1'000'000 + time) * 1'000 + milliseconds;
  return entry;
}

void DumpCapture::add_call(Entry entry, std::string_view function, std::uint16_t folder) {
  auto known = function_ids_.find(function);
  if (known == function_ids_.end()) {
    if (functions_.size() >= std::numeric_limits<std::uint16_t>::max()) return;
    known = function_ids_.emplace(function, static_cast<std::uint16_t>(functions_.size())).first;
    functions_.emplace_back(function);
    known_as_.push_back(of_base_class(function));
  }
  entry.function = known->second;
  entry.folder = folder;
  entries_.push_back(entry);
}

std::optional<std::uint16_t> DumpCapture::add_folder(const std::filesystem::path& path,
                                                     bool is_whole) {
  auto descriptor = open_directory(path);
  if (!descriptor || folders_.size() >= std::numeric_limits<std::uint16_t>::max()) {
    defects_.push_back({"unreadable_folder", path.string()});
    return std::nullopt;
  }
  std::error_code error;
  const bool has_session = std::filesystem::is_regular_file(path / "session.jsonl", error);
  folders_.push_back({path, std::move(*descriptor), has_session, is_whole});
  return static_cast<std::uint16_t>(folders_.size() - 1);
}

Result<void> DumpCapture::list(const std::filesystem::path& path, int depth) {
  std::error_code error;
  if (!listed_.insert(std::filesystem::canonical(path, error)).second) return {};

  bool has_calls = false;
  std::optional<std::uint16_t> folder;
  std::vector<std::string> below;
  const auto listed = visit_directory(path, [&](std::string_view name, bool is_directory) {
    std::string_view function;
    if (!is_directory) return;
    const auto entry = parse_name(name, function);
    if (!entry) return below.emplace_back(name), void();
    if (!std::exchange(has_calls, true)) folder = add_folder(path, true);
    if (folder) add_call(*entry, function, *folder);
  });

  if (!listed) {
    if (depth == 0) return listed;
    defects_.push_back({"unreadable_folder", listed.error().message});
    return {};
  }
  if (depth == max_folder_depth && !below.empty()) {
    defects_.push_back(
        {"folders_too_deep", fmt::format("{}: its subfolders are not searched", path.string())});
    return {};
  }

  // Sorted, so that the result does not depend on directory order.
  std::ranges::sort(below);
  for (const std::string& name : below) CW_CHECK(list(path / name, depth + 1));
  return {};
}

std::string DumpCapture::name(const Entry& entry) const {
  const std::int64_t seconds = entry.time / 1000;
  return fmt::format(FMT_COMPILE("{:08}_{:06}_{:03}_pid{}_{}_call{:0{}}"), seconds / 1'000'000,
                     seconds % 1'000'000, entry.time % 1000, entry.process,
                     functions_[entry.function], entry.sequence, entry.digits);
}

std::string DumpCapture::location(const CallPlace& place) const {
  if (place.at < forgotten_) return {};
  return (folders_[place.source].path / name(entry(place.at))).string();
}

void DumpCapture::sort() {
  // Within a millisecond, plans go first, unless session.jsonl says otherwise.
  std::vector<std::uint16_t> by_name(functions_.size()), ranks(functions_.size());
  std::iota(by_name.begin(), by_name.end(), std::uint16_t{0});
  const auto name_key = [this](std::uint16_t f) {
    return std::make_pair(!functions_[f].ends_with(".plan"), std::string_view(functions_[f]));
  };
  std::ranges::sort(by_name,
                    [&](std::uint16_t a, std::uint16_t b) { return name_key(a) < name_key(b); });
  for (std::size_t i = 0; i < by_name.size(); ++i)
    ranks[by_name[i]] = static_cast<std::uint16_t>(i);
  const auto key = [&ranks](const Entry& e) {
    return std::make_tuple(e.time, e.folder, e.process, ranks[e.function], e.sequence);
  };
  std::ranges::sort(entries_, [&key](const Entry& a, const Entry& b) { return key(a) < key(b); });
}

template <typename Visit>
void DumpCapture::for_each_group(Visit visit) const {
  for (std::size_t begin = 0; begin < entries_.size();) {
    std::size_t end = begin + 1;
    while (end < entries_.size() && entries_[end].time == entries_[begin].time &&
           entries_[end].folder == entries_[begin].folder &&
           entries_[end].process == entries_[begin].process)
      ++end;
    visit(begin, end);
    begin = end;
  }
}

// Names do not settle the order of different functions within one millisecond of a process, nor
// anything in a process where a function's sequence numbers run backwards (the clock was set back,
// or daylight saving time ended: the names hold local time).
std::vector<bool> DumpCapture::ambiguous_entries() const {
  std::vector<bool> ambiguous(entries_.size(), false);

  // Different functions of one process within the same millisecond.
  for_each_group([&](std::size_t begin, std::size_t end) {
    const bool mixed =
        std::any_of(entries_.begin() + static_cast<std::ptrdiff_t>(begin),
                    entries_.begin() + static_cast<std::ptrdiff_t>(end),
                    [&](const Entry& e) { return e.function != entries_[begin].function; });
    if (mixed)
      std::fill(ambiguous.begin() + static_cast<std::ptrdiff_t>(begin),
                ambiguous.begin() + static_cast<std::ptrdiff_t>(end), true);
  });

  // Processes whose clock was set back.
  std::map<std::tuple<std::uint16_t, std::int32_t, std::uint16_t>, std::uint32_t> last_sequence;
  std::set<std::pair<std::uint16_t, std::int32_t>> backwards;
  for (const Entry& entry : entries_) {
    auto& last = last_sequence[{entry.folder, entry.process, entry.function}];
    if (entry.sequence < last) backwards.insert({entry.folder, entry.process});
    last = entry.sequence;
  }
  if (!backwards.empty())
    for (std::size_t i = 0; i < entries_.size(); ++i)
      if (backwards.contains({entries_[i].folder, entries_[i].process})) ambiguous[i] = true;
  return ambiguous;
}

void DumpCapture::settle_ties() {
  const std::vector<bool> ambiguous = ambiguous_entries();
  constexpr std::size_t unknown = std::numeric_limits<std::size_t>::max();
  for (std::uint16_t folder = 0; folder < folders_.size(); ++folder) {
    std::map<std::int32_t, std::vector<std::size_t>> places;  // by process, ascending
    std::unordered_map<std::uint64_t, std::size_t> ranks;     // by hash of the name
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (!ambiguous[i] || entries_[i].folder != folder) continue;
      places[entries_[i].process].push_back(i);
      ranks.emplace(xxh3_64(name(entries_[i])), unknown);
    }
    if (places.empty()) continue;
    std::size_t rank = 0;
    if (folders_[folder].has_session) {
      const auto read =
          read_session_order(folders_[folder].path / "session.jsonl", [&](std::string_view call) {
            const auto found = ranks.find(xxh3_64(call));
            if (found != ranks.end() && found->second == unknown) found->second = rank++;
          });
      if (!read) defects_.push_back({"session_unreadable", read.error().message});
    }
    // The calls that session.jsonl knows are sorted among the positions they hold; the rest stay.
    for (const auto& [process, slots] : places) {
      std::vector<std::pair<std::size_t, Entry>> known;
      std::vector<std::size_t> free;
      for (const std::size_t slot : slots) {
        const std::size_t r = ranks.at(xxh3_64(name(entries_[slot])));
        entries_[slot].is_in_doubt = r == unknown;
        if (r == unknown) continue;
        known.emplace_back(r, entries_[slot]);
        free.push_back(slot);
      }
      std::ranges::sort(known, [](const auto& a, const auto& b) { return a.first < b.first; });
      for (std::size_t i = 0; i < free.size(); ++i) entries_[free[i]] = known[i].second;
    }
    if (rank < ranks.size())
      defects_.push_back(
          {"order_in_doubt",
           fmt::format(
               "{}: {} of {} calls that share a millisecond are not in session.jsonl; runs whose "
               "plan is ambiguous because of this are left out",
               folders_[folder].path.string(), ranks.size() - rank, ranks.size())});
  }

  // One unknown position leaves its whole millisecond unresolved.
  std::vector<std::pair<std::size_t, std::size_t>> open;
  for_each_group([&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i)
      if (entries_[i].is_in_doubt) return open.emplace_back(begin, end), void();
  });
  for (const auto& [begin, end] : open)
    for (std::size_t i = begin; i < end; ++i) entries_[i].is_in_doubt = true;
}

// Calls without a folder: FlashInfer skips those that would exceed its size limit but keeps
// numbering, a save can fail, and folders get deleted. Gaps in the numbers show it, except for a
// process's last calls, which are in the last lines of session.jsonl.
void DumpCapture::find_missing() {
  constexpr std::uint64_t session_tail = 1 << 20;
  std::map<std::tuple<std::uint16_t, std::int32_t, std::uint16_t>, std::size_t> last;
  std::uint64_t missing = 0;

  // A gap in a function's numbers.
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    const auto [before, first] = last.try_emplace({entry.folder, entry.process, entry.function}, i);
    if (!first && entry.sequence > entries_[before->second].sequence + 1) {
      entries_[before->second].is_next_missing = true;
      missing += entry.sequence - entries_[before->second].sequence - 1;
    }
    if (first || entry.sequence > entries_[before->second].sequence) before->second = i;
  }

  // Calls that a session lists but that have no folder.
  for (std::uint16_t folder = 0; folder < folders_.size(); ++folder) {
    if (!folders_[folder].has_session || !folders_[folder].is_whole) continue;
    std::set<std::tuple<std::int32_t, std::string, std::uint32_t>> gone;
    const auto visit = [&](std::string_view name) {
      std::string_view function;
      const auto entry = parse_name(name, function);
      if (!entry) return;
      const auto known = function_ids_.find(function);
      const auto found = known == function_ids_.end()
                             ? last.end()
                             : last.find({folder, entry->process, known->second});
      if (found != last.end() && entry->sequence <= entries_[found->second].sequence) return;
      if (found != last.end()) entries_[found->second].is_next_missing = true;
      gone.insert({entry->process, std::string(function), entry->sequence});
    };
    if (!read_session_order(folders_[folder].path / "session.jsonl", visit, session_tail)) continue;
    missing += gone.size();
  }

  note_missing(missing);
}

void DumpCapture::note_missing(std::uint64_t calls) {
  constexpr const char* code = "calls_missing";
  std::erase_if(defects_, [](const CaptureDefect& defect) { return defect.code == code; });
  if (calls > 0)
    defects_.push_back({code, fmt::format("{} calls were made that have no folder: skipped beyond "
                                          "FLASHINFER_DUMP_MAX_SIZE_GB, not saved, or deleted; "
                                          "runs whose plan may be among them are left out",
                                          calls)});
}

// From the very first call: it stays first as the run continues and more processes join, and no
// other run has it.
std::string DumpCapture::id() const {
  if (!first_name_.empty()) return uuid_v5("capture\n" + first_name_);
  if (entries_.empty()) return uuid_v5("capture without calls");
  return uuid_v5("capture\n" + name(entries_.front()));
}

Result<Call> DumpCapture::read(std::size_t index) const {
  const Entry& entry = this->entry(index);
  const Folder& folder = folders_[entry.folder];
  const std::string call_folder = name(entry);
  const auto in_call = [&](Error error) {
    return Error{std::move(error.code),
                 fmt::format("{}: {}", location(place(index)), error.message)};
  };
  static thread_local std::string buffer;
  const auto metadata = read_file_into(folder.descriptor.get(), call_folder + "/metadata.jsonl",
                                       max_metadata, padding, buffer);
  if (!metadata) {
    if (metadata.error().code != "not_found") return tl::unexpected(in_call(metadata.error()));
    return fail("metadata_missing",
                "{}: no metadata.jsonl (the dump failed or is still being written)",
                location(place(index)));
  }
  static thread_local RecordReader reader;
  CW_TRY(const std::shared_ptr<const Record> record,
         reader.last_record(*metadata, entry.function).map_error(in_call));

  if (record->function != functions_[entry.function] || record->process != entry.process)
    return fail("metadata_disagrees", "{}: the record is of {} in process {}",
                location(place(index)), record->function, record->process);

  CallContent content{.function = known_as_[entry.function],
                      .module = record->module,
                      .is_simulated = record->is_simulated,
                      .flashinfer_version = record->flashinfer_version};
  CW_TRY(content.signature, shared_signature(record->signature).map_error(in_call));

  Call call;
  call.status = status_of(*record);
  call.wrapper = {entry.folder, record->process, record->self};
  call.order = index;
  call.place = place(index);
  call.flushes = record->flush_index;
  call.is_next_missing = entry.is_next_missing;
  call.is_order_in_doubt = entry.is_in_doubt;
  if (deletes_)
    call.lease = std::shared_ptr<const void>(this, [this, index](const void*) { release(index); });

  // A captured call whose graph was never flushed has no files. An unfinished one does: FlashInfer
  // writes its record after its inputs.
  if (call.status != CallStatus::captured || call.flushes > 0) {
    const bool has_tensors = std::ranges::any_of(
        record->tensors, [](const TensorDetail& d) { return !d.key.starts_with("result"); });
    std::shared_ptr<const TensorFile> file;
    if (has_tensors) {
      CW_TRY(file, open_tensor_file(folder.descriptor.get(), call_folder, folder.path.string(),
                                    "inputs"));
      if (!file)
        return fail("tensors_missing", "{}: no inputs.safetensors or inputs.pt",
                    location(call.place));
    }
    CW_TRY(content.arguments,
           Assembler(*record, std::move(file)).arguments(*content.signature).map_error(in_call));
  }
  call.content = share(std::move(content));
  return call;
}

}  // namespace cw::level10
