// Turns events into records: equivalent calls are counted, and a bounded sample of their index
// tensors is kept.
//
// Everything here runs on one thread, the aggregator's. Calls are told apart by their arguments
// (names, scalars, shapes), their wrapper and its last plan, the values of their index tensors, and
// whether they were traffic. A window of such groups is written a few times a second; a call that
// recurs in a later window is referred to by the number of its signature.
//
// Which index tensors are kept: per function and per octave of their lengths, those whose values
// have the smallest hashes. Each set of values has the same chance, however long the recording
// runs, and repeats cost nothing.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "arguments.h"
#include "counter.h"
#include "event.h"
#include "queue.h"
#include "recording/records.h"
#include "staging.h"

namespace cw::recorder {

struct AggregatorOptions {
  std::uint64_t budget = 1'000'000'000;  ///< bytes of the whole file
  std::size_t kept_per_bucket = 16;
  std::size_t max_groups = 4096;  ///< in a window, which is written when full
};

class Aggregator {
 public:
  Aggregator(Queue& queue, Staging& staging, const AggregatorOptions& options);

  /// What becomes of a call whose copies are still under way: it is waited for, or its values count
  /// as lost.
  enum class PendingCopies { wait, give_up };
  /// Takes events until there are none, or until one has to be waited for. `has_room`: whether the
  /// file accepts content now. Returns whether there is more to take now.
  bool consume(PendingCopies pending, bool has_room);
  /// Discards what is in the queue and returns how many calls that was.
  std::uint64_t abandon();
  /// Collects the counts of repeated calls since the last time.
  void take_repeats();
  /// Charges `bytes` written elsewhere to the budget.
  void spend(std::uint64_t bytes) { written_bytes_ += bytes; }
  /// Whether calls are waiting to be written.
  bool has_window() const { return !groups_.empty() || has_news_; }
  bool is_window_full() const { return groups_.size() >= options_.max_groups; }
  /// Frames with what was collected since the last time: new functions and signatures, contents,
  /// then the window.
  std::string take_frames();
  /// The calls and replays covered by all frames taken so far.
  Made written() const { return {taken_.calls, taken_.replays, calls_uncounted_}; }
  /// A frame that says, while the engine is idle, that nothing is missing so far.
  std::string idle_frame();
  /// The last frames of a recording that ends cleanly.
  std::string end_frames(std::uint64_t events_lost);
  /// How many entries of a page table's rows are worth taking: what the longest sequences so far
  /// need, and some more. Any thread.
  std::uint32_t columns() const { return columns_.load(std::memory_order_relaxed); }
  /// Sets the zero of the times in records to now.
  void start_clock() { started_ = std::chrono::steady_clock::now(); }

 private:
  using Hash = std::pair<std::uint64_t, std::uint64_t>;
  struct HashOf {
    std::size_t operator()(const Hash& hash) const { return hash.first; }
  };
  struct HookedFunction {
    recording::Role role = recording::Role::function;
    std::string name;
    std::vector<std::string> names;
    std::uint64_t calls = 0, captured = 0;
  };
  struct Wrapper {
    std::uint32_t number = 0;
    /// How many plans this process had made when this wrapper was last planned; 0: never.
    std::uint64_t plan = 0;
    std::int64_t sequences = -1;  ///< how many of those planned are real; -1: all
  };
  struct Values {
    Hash hash{};
    std::uint64_t count = 0, from = 0;
    std::uint16_t tensor = 0;
    bool is_packed = false;  ///< of a page table: its pages in use
    recording::ValueState state = recording::ValueState::lost;
  };
  struct Group {
    std::uint32_t signature = 0, function = 0, wrapper = 0;
    std::uint64_t sequence = 0;  ///< of the first call
    std::uint64_t plan = 0, count = 0, raised = 0;
    std::int64_t sequences = -1;
    std::uint8_t flags = 0;
    bool is_replayed = false;
    std::vector<Values> values;
    std::vector<std::uint64_t> addresses;  ///< of the first call's tensors
  };
  struct CapturedCall {
    std::uint32_t function, signature;
    std::uint64_t self;
    std::uint8_t flags;
    std::uint64_t count;
    std::vector<Content> contents;  ///< of which each replay has the values
  };
  /// What has arrived of a tensor, cut to the part in use.
  struct Arrived {
    Values values;
    std::span<const std::byte> bytes;
    std::vector<std::byte> packed;  ///< of a page table
    bool is_there = false, is_left_out = false;
  };
  struct Bucket {
    std::set<Hash> kept;
  };
  bool take(std::span<const std::byte> event, PendingCopies pending, bool has_room);
  bool take_with_copies(const EventHeader& header, std::span<const std::byte> body,
                        PendingCopies pending, bool has_room);
  void take_function(const Json& json);
  void take_raised(const EventHeader& header);
  void take_call(const EventHeader& header, std::span<const Content> contents,
                 std::span<const std::byte> body, bool has_room);
  void take_exposed(std::uint64_t graph);
  void take_replay(const EventHeader& header, std::span<const Content> inputs, bool has_room);
  Arrived take_content(const Content& content, std::span<const Content> contents);
  Arrived take_table(const Content& content, const Content& lengths);
  std::vector<Values> take_values(std::uint32_t function, std::span<const Content> contents,
                                  bool has_room);
  bool is_in_sample(std::uint32_t function, const std::vector<Values>& values);
  std::uint32_t signature_of(std::uint32_t function, std::span<const std::byte> arguments);
  /// The arguments without the extents of lists that were taken as a whole: their values tell how
  /// many they are. Until the next call.
  std::span<const std::byte> without_extents(std::span<const std::byte> arguments,
                                             std::span<const Values> values);
  Wrapper& wrapper_of(std::uint64_t self);
  /// Returns its index in the window.
  std::size_t add(Group group);
  /// False when the budget does not allow it.
  bool write(recording::RecordKind kind, Json record);
  std::uint64_t now() const;
  Json group_json(const Group& group) const;

  Queue& queue_;
  Staging& staging_;
  const AggregatorOptions options_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();

  std::vector<HookedFunction> functions_;
  std::vector<std::byte> without_extents_;
  std::atomic<std::uint32_t> columns_{64};
  std::unordered_map<Hash, std::uint32_t, HashOf> signatures_;
  std::uint32_t next_signature_ = 0;
  std::unordered_map<std::uint64_t, Wrapper> wrappers_;
  std::uint32_t next_wrapper_ = 0;
  std::uint64_t plans_ = 0;
  std::int64_t sequences_ = -1;
  std::unordered_map<std::uint64_t, std::vector<CapturedCall>> graphs_;
  std::map<Hash, Bucket> buckets_;
  std::set<Hash> written_;  ///< hashes of contents already written

  struct Repeated {
    Repeats* repeats;
    Group group;
  };
  std::vector<Repeated> repeated_;
  std::vector<Group> groups_;
  std::unordered_map<Hash, std::size_t, HashOf> group_of_;
  /// From a call's sequence number to its group in this window.
  std::unordered_map<std::uint64_t, std::size_t> recent_;
  std::string frames_;
  bool has_news_ = false, is_last_ = false;
  std::uint64_t written_bytes_ = 0;
  Made taken_;  ///< without the calls that replays stand for
  std::uint64_t values_lost_ = 0, values_sampled_out_ = 0, calls_uncounted_ = 0;
};

}  // namespace cw::recorder
