// What recordings lack of processes that were killed: counted by memory that outlives them
// (recording/counts.h).
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <utility>

#include "base/file.h"
#include "recording/counts.h"

namespace cw::recording {

/// What processes called last and nobody can know any more.
struct LostCalls {
  std::uint64_t calls = 0, replays = 0;  ///< of CUDA graphs
  std::size_t processes = 0;             ///< that lack any
};

/// For people, as a line; empty when nothing is lost.
std::string describe(const LostCalls& lost);

/// Lends memory to the processes that are recorded into one folder, for as long as this lives.
class CallCounts {
 public:
  /// Where the system has no such memory nothing is lent, and what a kill costs is not known.
  CallCounts();
  CallCounts(const CallCounts&) = delete;
  CallCounts& operator=(const CallCounts&) = delete;
  ~CallCounts();

  /// The variable by which a process and its children find it; empty when nothing is lent, so that
  /// nobody else's counts.
  std::pair<std::string, std::string> environment() const;
  /// Appends to the recordings in `folder` of processes that were killed how much they lack, once
  /// each. What they lack in all, also those that have no recording. Of processes that live on
  /// nothing is said; for those that are dying it waits, as long as `patience`.
  LostCalls settle(const std::filesystem::path& folder, std::chrono::milliseconds patience);

 private:
  FileDescriptor file_;
  Counts* counts_ = nullptr;
};

}  // namespace cw::recording
