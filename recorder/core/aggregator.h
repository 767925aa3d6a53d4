// From events to records: calls that differ in nothing that matters are counted, and of their index
// tensors a bounded sample is kept.
//
// Everything here runs on one thread, the aggregator's. What a call differs in is its arguments
// (names, scalars, shapes), its wrapper and that wrapper's last plan, the values of its index
// tensors, and whether it was traffic. A window of such groups is written a few times a second; a
// call that comes again in a later window is named by the number of its signature.
//
// Which index tensors are kept: per function and octaves of their lengths, those with the smallest
// hashes of their values. Each set of values has the same chance, however long the recording goes
// on, and repeats cost nothing.
#pragma once

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
  std::size_t max_groups = 4096;  ///< in a window; then it is written
};

class Aggregator {
 public:
  Aggregator(Queue& queue, Staging& staging, const AggregatorOptions& options);

  /// What becomes of a call whose copies are still under way: it is waited for, or its values count
  /// as lost.
  enum class PendingCopies { wait, give_up };
  /// Takes events until there are none, or until one has to be waited for. `has_room`: whether the
  /// file takes
  /// content now. Whether there is more to take now.
  bool consume(PendingCopies pending, bool has_room);
  /// Throws away what waits in the queue, and says how many calls that were.
  std::uint64_t abandon();
  /// Takes what repeated calls were counted since the last time.
  void take_repeats();
  /// Takes so many bytes of the budget for what is written besides.
  void spend(std::uint64_t bytes) { written_bytes_ += bytes; }
  /// Whether calls wait to be written.
  bool has_window() const { return !groups_.empty() || has_news_; }
  bool is_window_full() const { return groups_.size() >= options_.max_groups; }
  /// Frames of what was collected since the last time: functions and signatures that are new,
  /// contents, then the window.
  std::string take_frames();
  /// What take_frames() and all before it have written of.
  Made written() const { return {taken_.calls, taken_.replays, calls_uncounted_}; }
  /// Says that nothing is missing up to now, while nothing comes.
  std::string idle_frame();
  /// The last frames of a recording that ends in order.
  std::string end_frames(std::uint64_t events_lost);
  /// Where the time that records carry begins.
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
    /// How many plans this process had made when it was planned last; 0: never.
    std::uint64_t plan = 0;
    std::int64_t sequences = -1;  ///< real ones among those planned; -1: all
  };
  struct Values {
    Hash hash{};
    std::uint64_t count = 0, from = 0;
    std::uint16_t tensor = 0;
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
  };
  struct Bucket {
    std::set<Hash> kept;
  };
  bool take(std::span<const std::byte> event, PendingCopies pending, bool has_room);
  bool take_call_with_copies(const EventHeader& header, std::span<const std::byte> body,
                             PendingCopies pending, bool has_room);
  void take_function(const Json& json);
  void take_raised(const EventHeader& header);
  void take_call(const EventHeader& header, std::span<const Content> contents,
                 std::span<const std::byte> body, bool has_room);
  void take_replay(const EventHeader& header);
  std::vector<Values> take_values(const EventHeader& header, std::span<const Content> contents,
                                  bool is_wanted, bool has_room);
  bool is_in_sample(std::uint32_t function, const std::vector<Values>& values);
  std::uint32_t signature_of(std::uint32_t function, std::span<const std::byte> arguments);
  Wrapper& wrapper_of(std::uint64_t self);
  /// Its place in the window.
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
  std::unordered_map<Hash, std::uint32_t, HashOf> signatures_;
  std::uint32_t next_signature_ = 0;
  std::unordered_map<std::uint64_t, Wrapper> wrappers_;
  std::uint32_t next_wrapper_ = 0;
  std::uint64_t plans_ = 0;
  std::int64_t sequences_ = -1;
  std::unordered_map<std::uint64_t, std::vector<CapturedCall>> graphs_;
  std::map<Hash, Bucket> buckets_;
  std::set<Hash> written_;  ///< contents

  struct Repeated {
    Repeats* repeats;
    Group group;
  };
  std::vector<Repeated> repeated_;
  std::vector<Group> groups_;
  std::unordered_map<Hash, std::size_t, HashOf> group_of_;
  /// Sequence of a call to its group in this window.
  std::unordered_map<std::uint64_t, std::size_t> recent_;
  std::string frames_;
  bool has_news_ = false, is_last_ = false;
  std::uint64_t written_bytes_ = 0;
  Made taken_;  ///< but for calls that replays stand for
  std::uint64_t values_lost_ = 0, values_sampled_out_ = 0, calls_uncounted_ = 0;
};

}  // namespace cw::recorder
