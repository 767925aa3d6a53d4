// What the engine's threads send to the aggregating thread. An event is one byte string: a header,
// and behind it what its kind calls for.
//
//   call     contents (one Content per tensor whose values are wanted), the arguments as
//            ArgumentWriter wrote them, and the addresses of their tensors
//   site     CBOR: what has to be known of a hooked function
//   name     CBOR: a keyword argument that a function's signature does not name
//   raised   `sequence` is the call that did not return
//   begin    the capture of a graph begins; the calls captured in it follow with its number
//   replay   the graph is about to be replayed
//   batch    `self` is the number of real sequences in the batch that is planned next
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cw::recorder {

enum class EventKind : std::uint8_t { call, site, name, raised, begin, replay, batch };

namespace flag {
inline constexpr std::uint8_t dummy = 1;   ///< within a scope that is no traffic
inline constexpr std::uint8_t nested = 2;  ///< within another recorded call
}  // namespace flag

/// How often a call was made again after it was told of: what costs the engine least. The engine's
/// side counts and, when it has done with it, retires it; the aggregator takes the count now and
/// then, and deletes what is retired.
struct Repeats {
  std::atomic<std::uint32_t> count{0};
  std::atomic<bool> is_retired{false};
  std::uint64_t sequence = 0;  ///< of the call that was told of; the engine's side's
};

struct EventHeader {
  EventKind kind = EventKind::call;
  std::uint8_t flags = 0;
  std::uint16_t contents = 0;
  std::uint32_t site = 0;
  std::uint64_t sequence = 0;
  std::uint64_t self = 0;   ///< identity of the wrapper object; 0 for functions
  std::uint64_t graph = 0;  ///< that the call was captured in; 0: it ran
  std::uint32_t size = 0;   ///< of the arguments or the CBOR, in bytes
  std::uint32_t addresses = 0;
  Repeats* repeats = nullptr;  ///< of a call that may come again; null: each is told of
};

/// Values of a tensor argument on their way to the host.
struct Content {
  std::uint64_t job = 0;            ///< of Staging; 0: they were not taken
  const std::byte* data = nullptr;  ///< in the staging memory, whole once the job is done
  std::uint64_t count = 0;          ///< elements
  std::uint32_t element_size = 0;
  std::int16_t bounded_by = -1;  ///< another content, whose last element says how many count here
  std::uint16_t tensor = 0;      ///< which of the call's tensors
  bool is_left_out = false;      ///< not taken on purpose: enough others are
};

}  // namespace cw::recorder
