#include "capture/recording/recording_capture.h"

#include <algorithm>
#include <set>

#include <fcntl.h>

#include "base/console.h"
#include "base/hash.h"
#include "recording/frame.h"

namespace cw::recording {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t chunk = 8 << 20;
constexpr std::size_t most_cached_forms = 4096;
constexpr int format = 1;

// Of a name, what is kept; names of functions are printed in many places.
std::string printable(std::string name) {
  constexpr std::size_t longest = 512;
  if (name.size() > longest) name.resize(longest);
  name = for_terminal(name);
  std::replace(name.begin(), name.end(), '\n', '?');
  return name;
}

}  // namespace

// The values of one call's tensors, read from the recording when they are asked for.
class RecordingCapture::Values final : public TensorStore {
 public:
  Values(const File& file, const CallGroup& group) : file_(file), values_(group.values), is_replayed_(group.is_replayed) {}

  void add(std::size_t entry, DType dtype) { dtypes_.emplace(entry, dtype); }

  Result<std::string> read(std::size_t entry, std::uint64_t count) const override {
    const auto values = std::find_if(values_.begin(), values_.end(), [entry](const CallValues& v) { return v.tensor == entry; });
    if (values == values_.end() && is_replayed_)
      return fail("values_in_graph", "made in a replay of a CUDA graph, where values cannot be read; only eager steps give them");
    if (values == values_.end())
      return fail("values_not_recorded", "the recorder keeps no values of this tensor: it keeps those of index tensors that a "
                                         "binding names, and floats only with --keep-values");
    if (values->state == CallValues::State::sampled_out)
      return fail("values_sampled_out", "of calls with index tensors of such lengths enough others were kept");
    const auto place = file_.values.find(values->hash);
    if (values->state == CallValues::State::lost || place == file_.values.end())
      return fail("values_lost", "the values were not taken: the recorder was behind, out of its budget, or in a CUDA graph");
    const auto size = byte_count(dtypes_.at(entry), count);
    if (count > values->count || !size || *size > place->second.size)
      return fail("values_too_short", "{} values are asked for and {} were recorded", count, values->count);
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
  CW_CHECK(read_exactly(file.descriptor, place.offset, bytes.size(), bytes.data(), file.path.string()));
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
    if (!is_directory && name.ends_with(extension)) names.emplace(name);
  }));
  return names;
}

Result<std::unique_ptr<RecordingCapture>> RecordingCapture::open(const std::vector<fs::path>& roots) {
  auto capture = std::make_unique<RecordingCapture>();
  capture->roots_ = roots;
  CW_CHECK(capture->poll());
  if (capture->files_.empty()) return fail("no_recordings", "no recordings (*{}) in {}", extension, roots.empty() ? "" : roots[0].string());
  capture->finish();
  return capture;
}

Result<std::unique_ptr<RecordingCapture>> RecordingCapture::follow(const fs::path& folder) {
  CW_CHECK(open_directory(folder));
  auto capture = std::make_unique<RecordingCapture>();
  capture->roots_ = {folder};
  return capture;
}

Result<void> RecordingCapture::add_file(const fs::path& path) {
  if (std::any_of(files_.begin(), files_.end(), [&](const File& file) { return file.path == path; })) return {};
  CW_TRY(FileDescriptor descriptor, open_for_reading(AT_FDCWD, path.string()));
  CW_CHECK(file_size(descriptor, path.string()));  // a file it is
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
    // In order, so that the result does not depend on the folder's.
    CW_TRY(const std::set<std::string> names, names_in(root));
    for (const std::string& name : names) {
      const fs::path path = fs::absolute(root) / name;
      if (unreadable_.contains(path)) continue;
      if (const auto added = add_file(path); !added) {  // the others can be read
        defects_.push_back({"recording_unreadable", added.error().message});
        unreadable_.insert(path);
      }
    }
  }
  return {};
}

Result<void> RecordingCapture::poll() {
  CW_CHECK(find_files());
  for (std::uint32_t i = 0; i < files_.size(); ++i) CW_CHECK(advance(i));
  return {};
}

Result<void> RecordingCapture::advance(std::uint32_t number) {
  File& file = files_[number];
  CW_TRY(const std::uint64_t size, file_size(file.descriptor, file.path.string()));
  std::string buffer;
  std::size_t wanted = chunk;
  while (!file.is_given_up && file.offset < size) {
    buffer.resize(static_cast<std::size_t>(std::min<std::uint64_t>(wanted, size - file.offset)));
    CW_CHECK(read_exactly(file.descriptor, file.offset, buffer.size(), buffer.data(), file.path.string()));
    std::size_t done = 0;
    for (;;) {
      const Frame frame = read_frame(std::string_view(buffer).substr(done));
      if (frame.status == Frame::Status::cut_off) break;
      if (frame.status == Frame::Status::damaged) {
        add_defect(file, "recording_damaged", fmt::format("damaged at byte {}", file.offset + done));
        // Where the length still makes sense, what follows may be whole.
        if (frame.size == 0) file.is_given_up = true;
      } else {
        take(number, frame.payload, file.offset + done + frame_header_size);
      }
      if (file.is_given_up) break;
      done += frame.size;
    }
    file.offset += done;
    if (done > 0)
      wanted = chunk;
    else if (buffer.size() == size - file.offset || file.is_given_up)
      break;  // the rest is still to be written
    else
      wanted *= 2;  // a frame larger than the buffer
  }
  return {};
}

void RecordingCapture::finish() {
  for (File& file : files_) {
    const auto size = file_size(file.descriptor, file.path.string());
    if (size && !file.is_given_up && file.offset < *size)
      add_defect(file, "recording_cut_off", fmt::format("its last {} bytes are half a record: the process was killed while it wrote", *size - file.offset));
    else if (!file.has_ended && !file.is_given_up)
      add_defect(file, "recording_not_ended", "the process did not end in order; up to a second of calls may be missing");
  }
}

void RecordingCapture::add_defect(const File& file, std::string code, std::string message) {
  defects_.push_back({std::move(code), fmt::format("{}: {}", file.path.string(), message)});
}

void RecordingCapture::take(std::uint32_t number, std::string_view payload, std::uint64_t offset) {
  File& file = files_[number];
  if (const auto values = as_values(payload)) {
    if (!file.header.is_null())
      file.values.insert_or_assign(values->hash, Place{offset + values->begin, static_cast<std::uint32_t>(values->size)});
    return;
  }
  const auto record = parse_cbor(payload);
  if (!record || !record->is_object()) return add_defect(file, "record_malformed", fmt::format("no record at byte {}", offset));
  take_record(number, *record, offset, payload.size());
}

void RecordingCapture::take_record(std::uint32_t number, const Json& record, std::uint64_t offset, std::size_t size) {
  File& file = files_[number];
  const std::string kind = string_member(record, "record");
  if (file.header.is_null()) {
    if (kind != "recording" || unsigned_member(record, "format") != format) {
      file.is_given_up = true;
      return add_defect(file, "recording_unknown", kind == "recording" ? "of a format that this version does not know" : "no recording");
    }
    file.header = record;
    return;
  }
  const auto numbered = [&record](const char* name) -> std::optional<std::uint32_t> {
    const auto found = record.find(name);
    if (found == record.end() || !found->is_number_unsigned() || found->get<std::uint64_t>() > most_numbers) return {};
    return found->get<std::uint32_t>();
  };
  if (kind == "site") {
    const auto number_of_site = numbered("site");
    if (!number_of_site) return add_defect(file, "record_malformed", "a site without a number");
    Site site{printable(string_member(record, "function")), string_member(record, "module"), printable(string_member(record, "version")), nullptr};
    const std::string text = string_member(record, "signature");
    std::shared_ptr<const Signature>& signature = signatures_[text];
    if (!signature) {
      auto parsed = parse_signature(text);
      if (!parsed) add_defect(file, parsed.error().code, printable(parsed.error().message));
      signature = std::make_shared<const Signature>(parsed ? std::move(*parsed) : Signature{});
    }
    site.signature = signature;
    file.sites[*number_of_site] = std::move(site);
  } else if (kind == "form") {
    const auto site = numbered("site"), form = numbered("form");
    if (!site || !form || !file.sites.contains(*site)) return add_defect(file, "record_malformed", "a form of a site that is not there");
    file.forms[*form] = {{offset, static_cast<std::uint32_t>(size)}, *site};
  } else if (kind == "calls") {
    const auto calls = record.find("calls");
    if (calls == record.end() || !calls->is_array()) return add_defect(file, "record_malformed", "calls without a list");
    for (const Json& item : *calls) {
      auto group = parse_group(item);
      if (!group) {
        add_defect(file, group.error().code, group.error().message);
      } else if (!file.forms.contains(group->form)) {
        add_defect(file, "record_malformed", "calls of a form that is not there");
      } else {
        // Those that raised are entries of their own.
        CallGroup raised = *group;
        raised.count = raised.raised;
        group->count -= group->raised;
        group->raised = 0;
        if (group->count > 0) entries_.push_back({number, offset, std::move(*group)});
        if (raised.count > 0) entries_.push_back({number, offset, std::move(raised)});
      }
    }
  } else if (kind == "end") {
    file.has_ended = true;
    for (const auto& [counter, text] : {std::pair("events_lost", "calls that the recorder could not count, because it was too far behind"),
                                        std::pair("calls_over_budget", "calls that are not itemized: --record-budget was used up"),
                                        std::pair("values_lost", "calls whose index tensors were not taken: behind, out of --record-budget, or of a layout "
                                                                 "that is not copied")})
      if (const std::uint64_t count = unsigned_member(record, counter); count > 0)
        add_defect(file, counter, fmt::format("{} {}", count, text));
  }
}

const std::string& RecordingCapture::function(std::size_t index) const {
  const Entry& entry = entries_[index];
  const File& file = files_[entry.file];
  return file.sites.at(file.forms.at(entry.group.form).site).function;
}

WrapperId RecordingCapture::process(std::size_t index) const {
  const Entry& entry = entries_[index];
  return {entry.file, static_cast<std::int64_t>(unsigned_member(files_[entry.file].header, "process")), 0};
}

std::string RecordingCapture::location(std::size_t index) const {
  const Entry& entry = entries_[index];
  return fmt::format("{}, form {} at byte {}", files_[entry.file].path.string(), entry.group.form, entry.window);
}

// The first recording: it stays the first while a run goes on and more processes join.
std::string RecordingCapture::id() const {
  if (files_.empty()) return uuid_v5("capture without calls");
  const Json& header = files_.front().header;
  if (header.is_null()) return uuid_v5("recording\n" + files_.front().path.filename().string());
  return uuid_v5(fmt::format("recording\n{}\n{}\n{}\n{}", string_member(header, "host"), string_member(header, "boot"),
                             unsigned_member(header, "process"), unsigned_member(header, "started")));
}

Result<Call> RecordingCapture::read(std::size_t index) const {
  const Entry& entry = entries_[index];
  const File& file = files_[entry.file];
  const CallGroup& group = entry.group;
  const Form& form = file.forms.at(group.form);
  const Site& site = file.sites.at(form.site);
  const std::uint64_t key = std::uint64_t{entry.file} << 32 | group.form;
  std::shared_ptr<const std::vector<std::pair<std::string, Value>>> arguments;
  {
    const std::lock_guard lock(cache_->mutex);
    if (const auto known = cache_->forms.find(key); known != cache_->forms.end()) arguments = known->second;
  }
  if (!arguments) {
    CW_TRY(const std::string payload, read_place(file, form.place));
    const auto record = parse_cbor(payload);
    if (!record || !record->contains("arguments")) return fail("record_malformed", "{}: the form is not there any more", location(index));
    CW_TRY(auto parsed, parse_arguments((*record)["arguments"]).map_error([&](Error error) {
      return Error{error.code, location(index) + ": " + error.message};
    }));
    arguments = std::make_shared<const std::vector<std::pair<std::string, Value>>>(std::move(parsed));
    const std::lock_guard lock(cache_->mutex);
    if (cache_->forms.size() >= most_cached_forms) cache_->forms.clear();
    cache_->forms.emplace(key, arguments);
  }

  Call call;
  call.function = site.function;
  call.module = site.module;
  call.status = group.is_dummy      ? CallStatus::dummy
                : group.raised > 0 ? CallStatus::unfinished
                                   : CallStatus::completed;
  call.wrapper = process(index);
  call.wrapper.self = group.wrapper;
  call.order = index;
  call.count = group.count;
  if (group.sequences >= 0) call.sequences = group.sequences;
  call.flashinfer_version = site.module.starts_with("flashinfer") ? site.version : "";
  call.signature = site.signature;
  call.arguments = *arguments;
  const auto store = std::make_shared<Values>(file, group);
  const auto connect = [&](const auto& self, Value& value) -> void {
    if (auto* tensor = std::get_if<Tensor>(&value.data)) {
      if (tensor->entry < group.addresses.size()) tensor->address = group.addresses[tensor->entry];
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
