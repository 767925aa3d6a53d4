// The recorder of one process: what the engine's threads call, and the thread that does the rest.
//
// The engine's side (everything but stop()) costs microseconds, never waits and never throws. Its
// callers take turns; a lock that they hold anyway, Python's, sees to it. The aggregator's thread
// touches nothing of the engine's.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "aggregator.h"
#include "arguments.h"
#include "counter.h"
#include "device.h"
#include "event.h"
#include "file.h"
#include "queue.h"
#include "staging.h"

namespace cw::recorder {

struct RecorderOptions {
  std::string folder;
  std::string name;    ///< of the file, without ".cbor"; a number is added while it is taken
  std::string counts;  ///< the path of the memory to count in (counter.h); may be empty
  Json header = Json::object();  ///< what the first record says besides what is known here
  AggregatorOptions aggregator;
  std::size_t staging_bytes = 64u << 20;
  std::size_t queue_bytes = 64u << 20;
};

/// A tensor of a call: where its values lie and how.
struct TensorView {
  ElementType type;
  std::span<const std::int64_t> shape;
  std::span<const std::int64_t> strides;  ///< in elements; empty: contiguous
  const void* data = nullptr;
  bool is_on_device = false;
};

class Recorder {
 public:
  explicit Recorder(RecorderOptions options);
  /// As stop().
  ~Recorder();

  /// What to log, once; empty when all is well. After it nothing is recorded any more. The recorder
  /// itself has no stream to log to: whoever owns it tells.
  std::string failure() const { return has_failed_ ? failure_ : std::string(); }
  bool is_on() const { return !has_failed_ && !is_stopping_; }

  /// `function` holds function, module, signature, role ("function", "method", "plan", "init") and
  /// names; see Aggregator.
  std::uint32_t add_function(const Json& function);
  void add_name(std::uint32_t function, std::string_view name);

  /// A call, from begin_call() to send(). One may be used again and again, by one thread.
  class CallBuilder {
   public:
    ArgumentWriter& arguments() { return arguments_; }
    void address(const void* data) {
      if (tensors_ < max_addresses) addresses_[tensors_] = reinterpret_cast<std::uint64_t>(data);
      ++tensors_;
    }
    /// Forgets the tensors from this one on.
    void take_back_tensors(std::uint16_t count) { tensors_ = count; }
    /// How many tensors came before.
    std::uint16_t tensors() const { return tensors_; }

   private:
    friend class Recorder;
    static constexpr std::size_t max_addresses = 24;
    // In the order of their use: most calls find the caches full of the engine's own data, and few
    // lines are touched.
    EventHeader header_;
    std::uint16_t tensors_ = 0;
    bool has_reserved_ = false, is_on_stream_ = false;
    std::vector<Content> contents_;
    std::array<std::uint64_t, max_addresses> addresses_;
    ArgumentWriter arguments_;
    std::vector<std::byte> event_;
    Device::Stream stream_ = nullptr;
  };
  void begin_call(CallBuilder& call, std::uint32_t function, std::uint64_t self, std::uint8_t flags,
                  std::uint64_t graph);
  /// Takes the first `count` elements of the call's tensor number `index`. `stream` is the
  /// caller's, for tensors on a device. Returns the content's number. From here to send() the
  /// caller keeps its turn.
  std::int16_t take_values(CallBuilder& call, const TensorView& tensor, std::uint16_t index,
                           std::uint64_t count, Device::Stream stream);
  /// Notes that the tensor's values are left out, because enough others were taken.
  void leave_out(CallBuilder& call, const TensorView& tensor, std::uint16_t index);
  /// Of `content` only so many elements count as the last element of `bound` says.
  void bound(CallBuilder& call, std::int16_t content, std::int16_t bound);
  /// Hands the call over; its number.
  /// A call without values that comes again under the same plans is only counted.
  std::uint64_t send(CallBuilder& call);
  /// Grows with every plan: values of calls under one plan seldom differ.
  std::uint64_t epoch() const { return epoch_; }
  void raised(std::uint32_t function, std::uint64_t call);

  /// A graph's capture begins: the number that its calls and its replays go by. While one is
  /// captured, anywhere in the process, nothing is copied.
  std::uint64_t begin_capture();
  void end_capture();
  void replay(std::uint64_t graph, std::uint8_t flags);
  void set_batch(std::uint64_t sequences);

  /// Gives the recorder a device for tensors that lie on one; else the CUDA driver of this process
  /// is looked for.
  void set_device(std::unique_ptr<Device> device);

  /// In the child of a fork: what it calls is not this process's.
  void forget_counts() { counts_ = nullptr; }

  /// Writes what is left, waits for the disk no longer than two seconds, and ends. The engine's
  /// side may go on calling.
  void stop();

 private:
  /// Calls that were told of and may come again: a cache of four entries a set, and a line of
  /// memory a set.
  static constexpr std::size_t sets = 128, ways = 4;
  struct Known {
    std::uint64_t key = 0;
    Repeats* repeats = nullptr;
  };
  struct alignas(64) KnownSet {
    Known ways_[ways];
  };

  std::uint64_t key_of(const CallBuilder& call) const;
  Known* find_known(std::uint64_t key);
  Known* new_known(std::uint64_t key);
  bool ensure_device(Device::Stream stream);
  void push(std::span<const std::byte> event, Queue::Limit limit);
  void push(EventHeader header, const Json& body);
  void run();
  void describe_process();
  void count_call();
  void claim_counts();
  void flush(std::string frames);
  void leave_counts();
  void wait_for_first_write() const;
  void fail(std::string why);

  RecorderOptions options_;
  std::string header_;  ///< the first frame; the aggregator's thread's
  Queue queue_;
  Staging staging_;
  Aggregator aggregator_;
  std::unique_ptr<RecordingFile> file_;  ///< the aggregator's thread's
  std::unique_ptr<Device> device_;       ///< the engine's side
  bool has_looked_for_device_ = false, has_device_failed_ = false;
  std::uint64_t next_call_ = 0, next_graph_ = 0, epoch_ = 1;
  /// By the engine's side, one thread at a time.
  std::atomic<std::uint64_t> calls_made_{0}, replays_made_{0};
  std::atomic<recording::CountsSlot*> counts_{nullptr};
  std::array<KnownSet, sets> known_;
  RepeatsPool repeats_;
  unsigned next_way_ = 0;
  std::vector<bool> is_plan_;  ///< by site
  std::uint32_t next_function_ = 0;
  unsigned captures_ = 0;
  std::atomic<std::uint64_t> events_lost_{0};

  std::string failure_;  ///< written before has_failed_
  std::atomic<bool> has_failed_{false}, is_stopping_{false};
  std::atomic<bool> has_written_{false};  ///< the first calls
  bool has_waited_ = false;               ///< for that; the engine's side
  std::thread thread_;
};

}  // namespace cw::recorder
