// Follows a dump folder while it is written, by its session.jsonl: that holds every record in the order in which
// calls began and ended, all processes together. A call is given on once it is complete, in the order in
// which its process began it; one that never returns is given on when its process has gone on without it.
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
  /// `frees` gives the disk blocks of what was read of session.jsonl back (the file keeps its length: FlashInfer
  /// appends to it), where the file system can.
  Follower(std::filesystem::path folder, DumpCapture& capture, bool frees);

  /// Appends to the capture what has been completed since the last call.
  Result<void> poll();
  /// The writers have ended: appends all that is left, also what session.jsonl does not name.
  Result<void> finish();
  /// Calls that have begun and are not given on yet.
  std::size_t pending() const { return pending_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Begun {
    std::string name;
    bool is_complete = false;
    Clock::time_point since;
  };

  Result<void> read_session();
  void take_line(std::string_view line);
  void give(bool all);

  std::filesystem::path folder_;
  DumpCapture& capture_;
  bool frees_;
  FileDescriptor session_;
  std::uint64_t offset_ = 0, freed_ = 0;
  std::string rest_;  ///< of a line that has no end yet
  std::map<std::int64_t, std::deque<Begun>> begun_;  ///< by process
  std::unordered_set<std::uint64_t> known_;          ///< hashes of names that were begun
  std::size_t pending_ = 0;
};

}  // namespace cw::level10
