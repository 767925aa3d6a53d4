// What the engine's threads send to the aggregating thread. An event is one byte string: a header,
// and behind it what its kind calls for.
//
//   call     contents (one Content per tensor whose values are wanted), the arguments as
//            ArgumentWriter wrote them, and the addresses of their tensors
//   function CBOR: what has to be known of a hooked function
//   name     CBOR: a keyword argument that a function's signature does not name
//   raised   `sequence` is the call that did not return
//   begin    the capture of a graph begins; the calls captured in it follow with its number
//   replay   the graph is about to be replayed
//   batch    `self` is the number of real sequences in the batch that is planned next
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cw::recorder {

enum class EventKind : std::uint8_t { call, function, name, raised, begin, replay, batch };

namespace flag {
inline constexpr std::uint8_t dummy = 1;   ///< within a scope that is no traffic
inline constexpr std::uint8_t nested = 2;  ///< within another recorded call
}  // namespace flag

/// How often a call was made again after it was sent: what costs the engine least. The engine's
/// side takes one from the pool, counts and, when it has no more use for it, retires it; the
/// aggregator collects the count now and then, and gives what is retired back.
struct Repeats {
  enum class State : std::uint8_t { free, counting, retired };
  std::atomic<std::uint32_t> count{0};
  std::atomic<State> state{State::free};
  std::uint64_t sequence = 0;  ///< of the call that was sent; the engine's side's
};

/// The counters of one process. They lie one after another in the order of their use, so that the
/// calls of a step touch few cache lines.
class RepeatsPool {
 public:
  RepeatsPool() : all_(size) {}

  /// The engine's side. Null when the next few are all in use: then each such call is sent.
  Repeats* take() noexcept {
    for (std::size_t tried = 0; tried < max_tries; ++tried) {
      Repeats& repeats = all_[next_++ % size];
      if (repeats.state.load(std::memory_order_acquire) != Repeats::State::free) continue;
      repeats.state.store(Repeats::State::counting, std::memory_order_relaxed);
      return &repeats;
    }
    return nullptr;
  }

 private:
  static constexpr std::size_t size = 8192, max_tries = 16;
  std::vector<Repeats> all_;
  std::size_t next_ = 0;
};

struct EventHeader {
  EventKind kind = EventKind::call;
  std::uint8_t flags = 0;
  std::uint16_t contents = 0;
  std::uint32_t function = 0;
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
