// This process's slot in the memory shared by the program that started it (recording/counts.h).
#pragma once

#include <cstdint>
#include <string>

#include "recording/counts.h"

namespace cw::recorder {

/// How many calls and replays of graphs.
struct Made {
  std::uint64_t calls = 0, replays = 0;
  std::uint64_t calls_over_budget = 0;  ///< of these: counted but not itemized
};

/// Claims a slot in the memory at `path`, for good: the engine's threads may write to it as long as
/// the process lives. Null if there is no such memory or no free slot. Called on a thread that has
/// left the engine's descriptor table.
recording::CountsSlot* claim_counts(const std::string& path);

}  // namespace cw::recorder
