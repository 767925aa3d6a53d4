// Recordings of our own recorder as a Capture.
//
// A file is read once from start to end, and from there on when it has grown. For a group of equal
// calls, only its counts and the identity of its values stay in memory; arguments and values are
// read from the file on demand. For a followed recording not even that stays: what was processed is
// forgotten. A truncated frame at the end comes from a process that was killed or is still writing.
//
// Files are untrusted: even data with a valid checksum is validated, and memory stays within a
// small multiple of the files' size.
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
#include "capture/recorder/record.h"

namespace cw::recording {

class RecordingCapture final : public Capture {
 public:
  /// Reads recordings, and folders of them, as they are now. Error codes: "not_found",
  /// "unreadable", "no_recordings".
  static Result<std::unique_ptr<RecordingCapture>> open(
      const std::vector<std::filesystem::path>& roots);
  /// A folder that is still being recorded into: starts empty. Error codes: "not_found",
  /// "unreadable".
  static Result<std::unique_ptr<RecordingCapture>> follow(const std::filesystem::path& folder);
  /// Whether a path is a recording or a folder that holds one.
  static bool is_recording(const std::filesystem::path& path);
  /// The names of the recordings in a folder, in order. Error codes: those of visit_directory().
  static Result<std::set<std::string>> names_in(const std::filesystem::path& folder);

  /// Reads what was written since the last time, until `deadline`; not safe while others read.
  /// Returns whether that was all. Error code "unreadable" (for a folder; an unreadable file is a
  /// defect).
  Result<bool> poll(Deadline deadline = Deadline::max());
  /// Total size of all files in bytes.
  std::uint64_t disk() const;
  /// The writers have exited: what is truncated stays so, and becomes a defect.
  void finish();

  std::size_t size() const override { return forgotten_ + entries_.size(); }
  const std::string& function(std::size_t index) const override;
  WrapperId process(std::size_t index) const override;
  std::string location(std::size_t index) const override;
  std::uint64_t count(std::size_t index) const override { return entry(index).group.count; }
  Result<Call> read(std::size_t index) const override;
  void release(std::size_t index) const override;
  const std::vector<CaptureDefect>& defects() const override { return defects_; }
  std::string id() const override;
  const char* kind() const override { return "recorder"; }

 private:
  struct Place {
    std::uint64_t offset = 0;  ///< of the payload in the file
    std::uint32_t size = 0;
  };
  struct HookedFunction {
    std::string name, module, version;
    std::shared_ptr<const Signature> signature;
  };
  struct Header {
    std::string host, boot;
    std::uint64_t process = 0, started = 0;
  };
  struct CallSignature {
    Place place;
    std::uint32_t function = 0;
  };
  struct File {
    std::filesystem::path path;
    FileDescriptor descriptor;
    std::uint64_t offset = 0;  ///< read up to here
    std::optional<Header> header;
    std::map<std::uint32_t, HookedFunction> functions;
    std::unordered_map<std::uint32_t, CallSignature> signatures;
    std::unordered_map<Hash128, Place> values;
    bool is_given_up = false, is_finished = false;
    bool has_ended = false;  ///< cleanly, or what is missing is known
    bool is_idle = false;    ///< there had been no calls for a while at its last record
  };
  struct Entry {
    std::uint32_t file;
    std::uint64_t window;  ///< position of its record, for messages
    CallGroup group;
    bool is_released = false;
  };
  class Values;

  const Entry& entry(std::size_t index) const { return entries_[index - forgotten_]; }
  void forget_released();
  /// Whether its process is on this machine and has not exited.
  static bool is_alive(const File& file);
  Result<void> find_files();
  Result<void> add_file(const std::filesystem::path& path);
  /// Returns whether everything in the file was taken.
  Result<bool> advance(std::uint32_t number, Deadline deadline);
  void take(std::uint32_t number, std::string_view payload, std::uint64_t offset);
  void take_values(File& file, std::string_view payload, const ValuesRecord& values,
                   std::uint64_t offset);
  void take_record(std::uint32_t number, const CborItem& record, std::uint64_t offset);
  void take_header(File& file, const CborItem& record);
  void take_function(File& file, const CborItem& record);
  void take_signature(File& file, const CborItem& record, std::uint64_t offset);
  void take_calls(std::uint32_t number, const CborItem& record, std::uint64_t offset);
  void take_end(File& file, const CborItem& record);
  void take_killed(File& file, const CborItem& record);
  void add_calls_over_budget(File& file, const CborItem& record);
  std::shared_ptr<const Signature> printed_signature(const File& file, std::string_view text);
  /// One entry per file and code; the first message is kept.
  void add_defect(const File& file, std::string code, std::string message, std::uint64_t count = 1);
  using Arguments = std::vector<std::pair<std::string, Value>>;
  Result<std::shared_ptr<const Arguments>> arguments_of(std::size_t index) const;
  static Result<std::string> read_place(const File& file, const Place& place);

  std::vector<std::filesystem::path> roots_;
  std::deque<File> files_;
  std::set<std::string> known_;  ///< paths found, including unreadable ones
  std::uint32_t next_file_ = 0;  ///< where poll() continues after it was cut short
  std::deque<Entry> entries_;    ///< except forgotten ones
  std::size_t forgotten_ = 0;
  bool forgets_ = false;
  std::uint64_t calls_ = 0;  ///< in all entries, forgotten ones included
  std::vector<CaptureDefect> defects_;
  std::map<std::pair<const File*, std::string>, std::size_t> defect_of_;  ///< by file and code
  std::map<std::string, std::shared_ptr<const Signature>, std::less<>> printed_signatures_;
  std::size_t parameters_ = 0;  ///< of all signatures

  /// State of reading, shared by several threads.
  struct Shared {
    std::mutex mutex;
    std::unordered_map<std::uint64_t, std::shared_ptr<const Arguments>> arguments;
    std::size_t cached_bytes = 0;
    std::vector<std::size_t> released;
  };
  std::unique_ptr<Shared> shared_ = std::make_unique<Shared>();
};

}  // namespace cw::recording
