// What a recorder's process has called and what of it is in its recording, in memory that outlives
// the process.
//
// A process that is killed leaves what it wrote last; what it called after that is gone with its
// memory. So whoever starts it (`record`, `collect`) lends it memory of its own (memfd_create(2),
// sealed so that it never shrinks): the engine's threads count there, the writer notes what the
// file has, and the difference is what the kill cost.
//
//   at 0            CountsHeader. The recorder's Python writes its last three members, under a lock
//                   of the file (_tell in collect_workloads_recorder.py)
//   from 256 on     CountsSlot, 256 bytes each, one a process that records
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cw::recording {

/// The variable that names the memory, as a path that a process of the same user can open.
inline constexpr const char* counts_variable = "COLLECT_WORKLOADS_RECORD_COUNTS";

/// What such a path is a link to.
inline constexpr const char* counts_target = "/memfd:collect-workloads (deleted)";

inline constexpr std::uint64_t counts_magic = 0x3173746e756f6377;  // "wcounts1"
inline constexpr std::size_t counts_slots = 4095;

struct alignas(256) CountsHeader {
  std::uint64_t magic = counts_magic;
  std::atomic<std::uint32_t> taken{0};   ///< slots; more processes than there are go without
  std::atomic<std::uint32_t> loaded{0};  ///< Python processes that the recorder was loaded into
  std::atomic<std::uint32_t> flashinfers{0};  ///< those of them that imported FlashInfer
  char flashinfer_version[32] = {};           ///< of the last one; filled with zeros
};
static_assert(offsetof(CountsHeader, loaded) == 12 && offsetof(CountsHeader, flashinfers) == 16 &&
              offsetof(CountsHeader, flashinfer_version) == 20);

enum class SlotState : std::uint32_t {
  none,  ///< no file yet
  recording,
  ended,  ///< in order, or switched off: nothing is missing that is not told elsewhere; or settled
};

/// How much the file stands for once it has so many bytes.
struct CountsPosition {
  std::atomic<std::uint64_t> bytes{0};  ///< 0: none
  std::atomic<std::uint64_t> calls{0}, replays{0};
  std::atomic<std::uint64_t> calls_over_budget{0};  ///< of `calls`
};

/// Of one process. `calls` are those that were made but for those captured in a graph, `replays`
/// are of graphs.
struct alignas(256) CountsSlot {
  std::atomic<std::uint64_t> calls{0}, replays{0};
  /// The last two, in turns: noted before the bytes are written, so that a kill at any moment
  /// leaves the file at one of them, or in the middle of a record.
  CountsPosition positions[2];
  std::atomic<std::uint64_t> started{0};  ///< clock ticks since boot (/proc/PID/stat, field 22)
  std::atomic<std::uint32_t> process{
      0};  ///< its number where the path was opened; 0: not known yet
  std::atomic<SlotState> state{SlotState::none};
  char file[152] = {};  ///< its name, ended by a zero; whole when state is `recording`
};

struct Counts {
  CountsHeader header;
  CountsSlot slots[counts_slots];
};
static_assert(sizeof(Counts) == 1u << 20 && std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace cw::recording
