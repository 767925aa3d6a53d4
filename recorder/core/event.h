// What the engine's threads send to the aggregator's thread. An event is one byte string: a header
// followed by a body that depends on its kind.
//
//   call     contents (one Content per tensor whose values are wanted), the arguments as
//            ArgumentWriter wrote them, and the addresses of their tensors
//   function CBOR: the description of a hooked function
//   name     CBOR: a keyword argument that a function's signature does not name
//   raised   `sequence` is the call that did not return
//   begin    the capture of a graph begins; the calls captured in it follow with its number, and
//            contents that say which of the graph's inputs (`slot`) are theirs
//   replay   the graph is about to be replayed: one Content per input of the graph
//   forget   the graph is gone, or captured anew under another number
//   exposed  the engine has got a handle of the graph, and may launch it unseen
//   batch    `self` is the number of real sequences in the next batch to be planned
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cw::recorder {

enum class EventKind : std::uint8_t {
  call,
  function,
  name,
  raised,
  begin,
  replay,
  forget,
  exposed,
  batch
};

namespace flag {
inline constexpr std::uint8_t dummy = 1;   ///< within a scope that is not traffic
inline constexpr std::uint8_t nested = 2;  ///< within another recorded call
}  // namespace flag

/// How often a call was repeated after it was sent: the cheapest way for the engine. The engine's
/// side takes a counter from the pool, increments it and retires it when done with it; the
/// aggregator collects the count now and then, and returns retired ones to the pool.
struct Repeats {
  enum class State : std::uint8_t { free, counting, retired };
  std::atomic<std::uint32_t> count{0};
  std::atomic<State> state{State::free};
  std::uint64_t sequence = 0;  ///< of the call that was sent; owned by the engine's side
};

/// The counters of one process, contiguous in order of use, so that the calls of a step touch few
/// cache lines.
class RepeatsPool {
 public:
  RepeatsPool() : all_(size) {}

  /// The engine's side. Null if the next few are all in use: then every such call is sent.
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
  std::uint64_t sequence = 0;  ///< of a call; of a replay, the job of its copies or 0
  std::uint64_t self = 0;      ///< identity of the wrapper object; 0 for functions
  std::uint64_t graph = 0;     ///< the graph the call was captured in; 0: it ran
  std::uint32_t size = 0;      ///< of the arguments or the CBOR, in bytes
  std::uint32_t addresses = 0;
  Repeats* repeats = nullptr;  ///< of a call that may recur; null: every such call is sent
};

/// Values of a tensor argument on their way to the host.
struct Content {
  std::uint64_t job = 0;            ///< in Staging; 0: the values were not taken
  const std::byte* data = nullptr;  ///< in the staging memory, complete once the job is done
  std::uint64_t count = 0;          ///< elements
  std::uint32_t element_size = 0;
  std::int16_t bounded_by = -1;  ///< another content, whose last element is this one's used length
  std::uint16_t tensor = 0;      ///< which of the call's tensors
  bool is_left_out = false;      ///< deliberately not taken: enough others were
  /// Which of the graph's inputs it is, of a captured call or before a replay; -1: it cannot be
  /// read.
  std::int16_t slot = -1;
  // Of a page table, which has a row for each sequence:
  std::int16_t lengths = -1;  ///< another content, the sequences' lengths; -1: not a page table
  std::uint32_t page = 0;     ///< tokens in a page
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;  ///< entries of each row that were taken
};

}  // namespace cw::recorder
