// Follows a dump folder while it is written, using its session.jsonl, which holds every record in
// the order in which calls began and ended, across all processes. A call is delivered once it is
// complete, in the order in which its process began it; one that never returns is delivered once
// its process has moved on without it. What was delivered and processed is forgotten.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <string>
#include <unordered_set>

#include "capture/level10/dump_capture.h"

namespace cw::level10 {

class Follower {
 public:
  /// Disposal::remove also frees the disk blocks of the part of session.jsonl that was read, where
  /// the file system supports it: the file keeps its length, because FlashInfer appends to it.
  Follower(std::filesystem::path folder, DumpCapture& capture, Disposal disposal);

  /// Appends to the capture what has been completed since the last call, until `deadline`. Returns
  /// whether that was everything.
  Result<bool> poll(Deadline deadline = Deadline::max());
  /// The writers have exited: appends everything left, including what session.jsonl does not name.
  Result<void> finish();
  /// Calls that have begun and are not delivered yet.
  std::size_t pending() const { return pending_; }
  /// Disk usage in bytes of session.jsonl and of the calls it has named so far.
  std::uint64_t disk() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Begun {
    std::string name;
    std::string function;
    std::uint32_t sequence = 0;
    bool is_complete = false;
    bool is_captured = false;  ///< in a CUDA graph: its lines recur with every flush
    Clock::time_point since;
  };

  /// Returns whether all of it was read.
  Result<bool> read_session(Deadline deadline);
  void take_line(std::string_view line);
  void give(bool all);
  void give(const std::deque<Begun>& begun, const Begun& call);

  std::filesystem::path folder_;
  DumpCapture& capture_;
  bool frees_;
  FileDescriptor session_;
  std::uint64_t offset_ = 0, freed_ = 0;
  std::string rest_;                                 ///< start of an incomplete line
  std::map<std::int64_t, std::deque<Begun>> begun_;  ///< by process
  std::unordered_set<std::uint64_t> known_;  ///< hashes of names that may occur in further lines
  std::size_t pending_ = 0;

  /// Call numbers per process and function; they advance even for calls that FlashInfer drops.
  struct Numbers {
    std::uint32_t first = 0, last = 0;
    std::uint64_t given = 0, absent = 0;
  };
  std::map<std::pair<std::int64_t, std::string>, Numbers> numbers_;
};

/// Disk usage in bytes of whatever else is in a dump folder besides session.jsonl and calls: nobody
/// deletes it.
std::uint64_t disk_of_foreign_files(const std::filesystem::path& folder);

}  // namespace cw::level10
