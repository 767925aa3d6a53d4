// Follows a dump folder while it is written, by its session.jsonl: that holds every record in the
// order in which calls began and ended, all processes together. A call is given on once it is
// complete, in the order in which its process began it; one that never returns is given on when its
// process has gone on without it. What was given on and dealt with is forgotten.
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
  /// Disposal::remove also gives back the disk blocks of what was read of session.jsonl, where the
  /// file system can: the file keeps its length, because FlashInfer appends to it.
  Follower(std::filesystem::path folder, DumpCapture& capture, Disposal disposal);

  /// Appends to the capture what has been completed since the last call, until `deadline`. Whether
  /// that was all.
  Result<bool> poll(Deadline deadline = Deadline::max());
  /// The writers have ended: appends all that is left, also what session.jsonl does not name.
  Result<void> finish();
  /// Calls that have begun and are not given on yet.
  std::size_t pending() const { return pending_; }
  /// Bytes on the disk of session.jsonl and of the calls that it has told of so far.
  std::uint64_t disk() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Begun {
    std::string name;
    std::string function;
    std::uint32_t sequence = 0;
    bool is_complete = false;
    bool is_captured = false;  ///< in a CUDA graph: its lines come again with every flush
    Clock::time_point since;
  };

  /// Whether all of it was read.
  Result<bool> read_session(Deadline deadline);
  void take_line(std::string_view line);
  void give(bool all);
  void give(const std::deque<Begun>& begun, const Begun& call);

  std::filesystem::path folder_;
  DumpCapture& capture_;
  bool frees_;
  FileDescriptor session_;
  std::uint64_t offset_ = 0, freed_ = 0;
  std::string rest_;                                 ///< of a line that has no end yet
  std::map<std::int64_t, std::deque<Begun>> begun_;  ///< by process
  std::unordered_set<std::uint64_t> known_;  ///< hashes of names that lines may still come of
  std::size_t pending_ = 0;

  /// Of each process's functions: numbers, which go on where FlashInfer keeps no call.
  struct Numbers {
    std::uint32_t first = 0, last = 0;
    std::uint64_t given = 0, absent = 0;
  };
  std::map<std::pair<std::int64_t, std::string>, Numbers> numbers_;
};

/// Bytes on the disk of what lies in a dump folder and is neither session.jsonl nor a call's:
/// nobody deletes it.
std::uint64_t disk_of_foreign_files(const std::filesystem::path& folder);

}  // namespace cw::level10
