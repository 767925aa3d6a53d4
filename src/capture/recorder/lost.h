// What is known of recorded processes beside their recordings: how many there were, and how many
// calls were lost as they were killed. Told in shared memory that outlives them
// (recording/counts.h).
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "base/file.h"
#include "capture/method.h"
#include "recording/counts.h"

namespace cw::recording {

/// The last calls of killed processes, which cannot be recovered.
struct LostCalls {
  std::uint64_t calls = 0, replays = 0;  ///< of CUDA graphs
  std::size_t processes = 0;             ///< processes that lost any
};

/// One line for people; empty if nothing was lost.
std::string describe(const LostCalls& lost);

/// Why a command left no recording, and what to do about it. `reach` is null if it is not known.
std::string why_nothing_recorded(const std::optional<Reach>& reach);

/// Shared memory for the processes recorded into one folder, for the lifetime of this object.
class CallCounts {
 public:
  /// If the system provides no such memory, there is none, and losses from kills are unknown.
  CallCounts();
  CallCounts(const CallCounts&) = delete;
  CallCounts& operator=(const CallCounts&) = delete;
  ~CallCounts();

  /// The variable by which a process and its children find it; its value is empty if there is no
  /// memory, so that an inherited one is not used.
  std::pair<std::string, std::string> environment() const;
  /// Appends to the recordings in `folder` of killed processes how much each lacks, once each.
  /// Returns the total, including processes that have no recording. Ignores processes that live on;
  /// waits up to `patience` for those that are dying.
  LostCalls settle(const std::filesystem::path& folder, std::chrono::milliseconds patience);
  /// The processes so far. Nothing if there is no memory.
  std::optional<Reach> reach() const;

 private:
  FileDescriptor file_;
  Counts* counts_ = nullptr;
};

}  // namespace cw::recording
