// This process's place in the memory that whoever started it lends (recording/counts.h).
#pragma once

#include <cstdint>
#include <string>

#include "recording/counts.h"

namespace cw::recorder {

/// How many calls and replays of graphs.
struct Made {
  std::uint64_t calls = 0, replays = 0;
  std::uint64_t calls_over_budget = 0;  ///< of the calls: counted and not itemized
};

/// A place in the memory at `path`, for good: the engine's threads may write to it as long as the
/// process lives. Null where there is no such memory, or no place left in it. Called on a thread
/// that has left the engine's table of descriptors.
recording::CountsSlot* claim_counts(const std::string& path);

}  // namespace cw::recorder
