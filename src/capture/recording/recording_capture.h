// Recordings of our own recorder as a Capture.
//
// A file is read once from its begin to its end, and again from there when it has grown. What stays in memory of a group of
// equal calls is its counts and which values belong to it; arguments and values are read from the file when they are asked
// for. A frame that is cut off at the end is the last moment of a process that was killed, or of one that is writing.
#pragma once

#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "capture/capture.h"
#include "capture/recording/record.h"

namespace cw::recording {

class RecordingCapture final : public Capture {
 public:
  static constexpr std::string_view extension = ".cbor";

  /// Takes recordings, and folders of them, as they are now. Error codes: "not_found", "unreadable", "no_recordings".
  static Result<std::unique_ptr<RecordingCapture>> open(const std::vector<std::filesystem::path>& roots);
  /// A folder that is still being recorded into: begins empty. Error codes: "not_found", "unreadable".
  static Result<std::unique_ptr<RecordingCapture>> follow(const std::filesystem::path& folder);
  /// Whether a path is a recording or a folder that holds one.
  static bool is_recording(const std::filesystem::path& path);
  /// The names of the recordings in a folder, in order. Error codes: those of visit_directory().
  static Result<std::set<std::string>> names_in(const std::filesystem::path& folder);

  /// Takes what was written since the last time; not safe while others read. Error code "unreadable".
  Result<void> poll();
  /// The writers have ended: what is cut off stays so, and is told.
  void finish();

  std::size_t size() const override { return entries_.size(); }
  const std::string& function(std::size_t index) const override;
  WrapperId process(std::size_t index) const override;
  std::string location(std::size_t index) const override;
  std::uint64_t count(std::size_t index) const override { return entries_[index].group.count; }
  Result<Call> read(std::size_t index) const override;
  const std::vector<CaptureDefect>& defects() const override { return defects_; }
  std::string id() const override;
  const char* kind() const override { return "recorder"; }

 private:
  struct Place {
    std::uint64_t offset = 0;  ///< of the payload in the file
    std::uint32_t size = 0;
  };
  struct Site {
    std::string function, module, version;
    std::shared_ptr<const Signature> signature;
  };
  struct Form {
    Place place;
    std::uint32_t site = 0;
  };
  struct File {
    std::filesystem::path path;
    FileDescriptor descriptor;
    std::uint64_t offset = 0;  ///< read up to here
    Json header;
    std::map<std::uint32_t, Site> sites;
    std::unordered_map<std::uint32_t, Form> forms;
    std::unordered_map<Hash128, Place> values;
    bool is_given_up = false, has_ended = false;
  };
  struct Entry {
    std::uint32_t file;
    std::uint64_t window;  ///< where its record lies, for messages
    CallGroup group;
  };
  class Values;

  Result<void> find_files();
  Result<void> add_file(const std::filesystem::path& path);
  Result<void> advance(std::uint32_t number);
  void take(std::uint32_t number, std::string_view payload, std::uint64_t offset);
  void take_record(std::uint32_t number, const Json& record, std::uint64_t offset, std::size_t size);
  void add_defect(const File& file, std::string code, std::string message);
  static Result<std::string> read_place(const File& file, const Place& place);

  std::vector<std::filesystem::path> roots_;
  std::deque<File> files_;
  std::deque<Entry> entries_;
  std::vector<CaptureDefect> defects_;
  std::set<std::filesystem::path> unreadable_;  ///< in the folders; told once
  std::map<std::string, std::shared_ptr<const Signature>> signatures_;
  struct FormCache {
    std::mutex mutex;
    std::unordered_map<std::uint64_t, std::shared_ptr<const std::vector<std::pair<std::string, Value>>>> forms;
  };
  std::unique_ptr<FormCache> cache_ = std::make_unique<FormCache>();
};

}  // namespace cw::recording
