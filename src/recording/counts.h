// What a recorder's process has called and what of it is in its recording, in memory that outlives the process.
//
// A process that is killed leaves what it wrote last; what it called after that is gone with its memory. So whoever
// starts it (`record`, `collect`) lends it memory of its own (memfd_create(2), sealed so that it never shrinks): the
// engine's threads count there, the writer notes what is on the disk, and the difference is what the kill cost.
//
//   at 0            CountsHeader
//   from 256 on     CountsSlot, 256 bytes each, one a process that records
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cw::recording {

/// The variable that names the memory, as a path that a process of the same user can open.
inline constexpr const char* counts_variable = "COLLECT_WORKLOADS_RECORD_COUNTS";

inline constexpr std::uint64_t counts_magic = 0x3173746e756f6377;  // "wcounts1"
inline constexpr std::size_t counts_slots = 4095;

struct alignas(256) CountsHeader {
  std::uint64_t magic = counts_magic;
  std::atomic<std::uint32_t> taken{0};  ///< slots; more processes than there are go without
};

enum class SlotState : std::uint32_t {
  none,      ///< no file yet
  recording,
  ended,     ///< in order, or switched off: nothing is missing that is not told elsewhere
};

/// Written by one process. What counts are of: `calls` but for those captured in a graph, `replays` of graphs.
struct alignas(256) CountsSlot {
  std::atomic<std::uint64_t> calls{0}, replays{0};                  ///< made
  std::atomic<std::uint64_t> written_calls{0}, written_replays{0};  ///< in the file
  std::atomic<std::uint64_t> written_bytes{0};                      ///< of the file
  std::atomic<SlotState> state{SlotState::none};
  std::atomic<std::uint32_t> process{0};
  char file[200] = {};  ///< its name, ended by a zero; whole when state is `recording`
};

struct Counts {
  CountsHeader header;
  CountsSlot slots[counts_slots];
};
static_assert(sizeof(Counts) == 1u << 20 && std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace cw::recording
