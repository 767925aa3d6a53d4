// Folders of level-10 dumps as a Capture.
//
// A dump folder holds one directory per call, {YYYYmmdd_HHMMSS_mmm}_pid{pid}_{function}_call{seq},
// and session.jsonl, which repeats every record in the order written. Names give the order except
// for calls of one process in the same millisecond; session.jsonl is read only to settle those. 24
// bytes per call are kept in memory. Paths in records are never used: dumps get moved.
#pragma once

#include <atomic>
#include <deque>
#include <filesystem>
#include <map>
#include <set>
#include <vector>

#include "base/file.h"
#include "capture/capture.h"

namespace cw::level10 {

class DumpCapture final : public Capture {
 public:
  /// Finds the dump folders at and below `roots`. A root may also be a call's own directory; all
  /// such roots of one dump folder together count as that folder. Error codes: "not_found",
  /// "unreadable", "no_dumps". Unreadable sub-folders become defects.
  static Result<DumpCapture> open(const std::vector<std::filesystem::path>& roots);

  /// A capture of a folder that is still being written: starts empty, append() adds calls.
  /// Disposal::remove removes a call's directory when the last user of its Call releases it. Error
  /// codes: "not_found", "unreadable".
  static Result<DumpCapture> follow(const std::filesystem::path& folder, Disposal disposal);
  /// Adds the next call by its directory's name; false if that is not a call's name. Not safe while
  /// others read. `is_next_missing`: the next call of its function and process has no folder.
  bool append(std::string_view name, bool is_next_missing = false);
  /// Sets how many calls have been made without a folder, earlier ones included.
  void note_missing(std::uint64_t calls);
  /// The parts of a directory's name.
  struct CallName {
    std::int64_t process = 0;
    std::string function;
    std::uint32_t sequence = 0;
  };
  static std::optional<CallName> call_name(std::string_view name);
  /// The process in a directory's name; nothing if it is not a call's.
  static std::optional<std::int64_t> process_of(std::string_view name);

  /// If calls are deleted, drops the leading entries whose calls have been released, up to the
  /// first that has not. Not safe while others read.
  void forget_released();
  /// From now on, no call's directory is removed.
  void keep_the_rest() { *deletes_still_ = false; }
  /// Visits the names of the calls that are not forgotten.
  void visit_names(const std::function<void(const std::string&)>& visit) const;
  /// Disk usage in bytes of the calls that were appended and not deleted.
  std::uint64_t disk() const { return static_cast<std::uint64_t>(*kilobytes_) * 1024; }

  std::size_t size() const override { return forgotten_ + entries_.size(); }
  Sighting sighting(std::size_t index) const override {
    const Entry& seen = entry(index);
    return {.function = seen.function, .wrapper = {seen.folder, seen.process, 0}};
  }
  const std::string& function_name(std::uint32_t number) const override {
    return known_as_[number];
  }
  /// `at` is the entry's number.
  CallPlace place(std::size_t index) const override {
    return {.source = entry(index).folder, .at = index};
  }
  std::string location(const CallPlace& place) const override;
  Result<Call> read(std::size_t index) const override;
  Result<Call> read_again(const CallPlace& place) const override { return read(place.at); }
  void release(std::size_t index) const override;
  std::string id() const override;
  const char* kind() const override { return "level10"; }

  const std::vector<CaptureDefect>& defects() const override { return defects_; }

 private:
  struct Entry {
    std::int64_t time;  ///< the name's timestamp as one number, YYYYmmddHHMMSSmmm
    std::int32_t process;
    std::uint32_t sequence;
    std::uint16_t function;
    std::uint16_t folder;
    std::uint8_t digits;   ///< width of the sequence number in the name
    bool is_in_doubt;      ///< its order within its millisecond is unknown
    bool is_next_missing;  ///< a call of this function and process is there with a higher number,
                           ///< the next is not
    /// Disk usage of its folder, if calls are deleted.
    mutable std::uint32_t kilobytes;
    mutable std::uint8_t is_released;  ///< atomic access: a call's last user may be on any thread
  };
  const Entry& entry(std::size_t index) const { return entries_[index - forgotten_]; }
  struct Folder {
    std::filesystem::path path;
    FileDescriptor descriptor;
    bool has_session = false;
    bool is_whole = true;  ///< all of its calls were requested
  };

  static std::string of_base_class(std::string_view function);
  static std::optional<Entry> parse_name(std::string_view name, std::string_view& function);
  Result<void> list(const std::filesystem::path& path, int depth);
  /// Returns its number; nothing if it cannot be opened.
  std::optional<std::uint16_t> add_folder(const std::filesystem::path& path, bool is_whole);
  void add_call(Entry entry, std::string_view function, std::uint16_t folder);
  std::string name(const Entry& entry) const;
  void sort();
  void settle_ties();
  void find_missing();
  /// Visits runs of entries of the same folder, process and millisecond: [begin, end).
  template <typename Visit>
  void for_each_group(Visit visit) const;
  std::vector<bool> ambiguous_entries() const;

  std::deque<Entry> entries_;           ///< grows without reallocating
  std::vector<std::string> functions_;  ///< as in the folders' names
  std::deque<std::string> known_as_;    ///< likewise, with the wrapper's class for a subclass
  std::map<std::string, std::uint16_t, std::less<>> function_ids_;
  std::vector<Folder> folders_;
  std::set<std::filesystem::path> listed_;  ///< canonical paths: a folder reached twice counts once
  std::vector<CaptureDefect> defects_;
  bool deletes_ = false;
  std::size_t forgotten_ = 0;  ///< entries before the first
  std::string first_name_;
  std::unique_ptr<std::atomic<bool>> deletes_still_ = std::make_unique<std::atomic<bool>>(true);
  std::unique_ptr<std::atomic<std::int64_t>> kilobytes_ =
      std::make_unique<std::atomic<std::int64_t>>(0);
};

}  // namespace cw::level10
