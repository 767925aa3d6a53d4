// Folders of level-10 dumps as a Capture.
//
// A dump folder holds one directory a call, {YYYYmmdd_HHMMSS_mmm}_pid{pid}_{function}_call{seq},
// and session.jsonl, which repeats every record in the order written. Names give the order but for
// calls of one process in one millisecond; session.jsonl settles those, and only then is it read.
// Of each call 24 bytes stay in memory. What a record says of paths is never used: dumps get moved.
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
  /// such roots of one dump folder together are taken for that folder. Error codes: "not_found",
  /// "unreadable", "no_dumps". Unreadable sub-folders become defects.
  static Result<DumpCapture> open(const std::vector<std::filesystem::path>& roots);

  /// A capture of one folder that is still being written: it begins empty, append() adds calls.
  /// Disposal::remove removes a call's directory when the last user of the Call that was read lets
  /// it go. Error codes: "not_found", "unreadable".
  static Result<DumpCapture> follow(const std::filesystem::path& folder, Disposal disposal);
  /// Adds the next call by its directory's name; false when that is no call's name. Not safe while
  /// others read. `is_next_missing`: the next call of its function and process has no folder.
  bool append(std::string_view name, bool is_next_missing = false);
  /// So many calls were made that have no folder, those of before included.
  void note_missing(std::uint64_t calls);
  /// What a directory's name tells.
  struct CallName {
    std::int64_t process = 0;
    std::string function;
    std::uint32_t sequence = 0;
  };
  static std::optional<CallName> call_name(std::string_view name);
  /// The process that a directory's name tells; nothing when it is no call's.
  static std::optional<std::int64_t> process_of(std::string_view name);

  /// Lets go of entries whose calls were released, where calls are deleted: from the first on, as
  /// far as all are. Not safe while others read.
  void forget_released();
  /// From now on no call's directory is removed.
  void keep_the_rest() { *deletes_still_ = false; }
  /// The names of the calls that are not forgotten.
  void visit_names(const std::function<void(const std::string&)>& visit) const;
  /// Bytes on the disk of the calls that were appended and are not deleted.
  std::uint64_t disk() const { return static_cast<std::uint64_t>(*kilobytes_) * 1024; }

  std::size_t size() const override { return forgotten_ + entries_.size(); }
  const std::string& function(std::size_t index) const override;
  WrapperId process(std::size_t index) const override {
    return {entry(index).folder, entry(index).process, 0};
  }
  std::string location(std::size_t index) const override;
  Result<Call> read(std::size_t index) const override;
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
    bool is_in_doubt;      ///< its place among the calls of its millisecond is not known
    bool is_next_missing;  ///< a call of this function and process is there with a higher number,
                           ///< the next is not
    /// Of its folder on the disk, where calls are deleted.
    mutable std::uint32_t kilobytes;
    mutable std::uint8_t is_released;  ///< atomically: the last user of a call may be on any thread
  };
  const Entry& entry(std::size_t index) const { return entries_[index - forgotten_]; }
  struct Folder {
    std::filesystem::path path;
    FileDescriptor descriptor;
    bool has_session = false;
    bool is_whole = true;  ///< all of its calls were asked for
  };

  static std::string of_base_class(std::string_view function);
  static std::optional<Entry> parse_name(std::string_view name, std::string_view& function);
  Result<void> list(const std::filesystem::path& path, int depth);
  /// Its number; nothing when it cannot be opened.
  std::optional<std::uint16_t> add_folder(const std::filesystem::path& path, bool is_whole);
  void add_call(Entry entry, std::string_view function, std::uint16_t folder);
  std::string name(const Entry& entry) const;
  void sort();
  void settle_ties();
  void find_missing();
  /// Stretches of entries of one folder, process and millisecond: [begin, end).
  template <typename Visit>
  void for_each_group(Visit visit) const;
  std::vector<bool> ambiguous_entries() const;

  std::deque<Entry> entries_;           ///< grows without a second copy
  std::vector<std::string> functions_;  ///< as the folders are called
  std::vector<std::string> known_as_;  ///< likewise, with the wrapper's class in a subclass's place
  std::map<std::string, std::uint16_t, std::less<>> function_ids_;
  std::vector<Folder> folders_;
  std::set<std::filesystem::path> listed_;  ///< canonical: a folder reached twice counts once
  std::vector<CaptureDefect> defects_;
  bool deletes_ = false;
  std::size_t forgotten_ = 0;  ///< entries before the first
  std::string first_name_;
  std::unique_ptr<std::atomic<bool>> deletes_still_ = std::make_unique<std::atomic<bool>>(true);
  std::unique_ptr<std::atomic<std::int64_t>> kilobytes_ =
      std::make_unique<std::atomic<std::int64_t>>(0);
};

}  // namespace cw::level10
