// The recorder of one process: what the engine's threads call, and the thread that does the rest.
//
// The engine's side (everything but stop()) costs microseconds, never blocks and never throws. Its
// callers are serialized by a lock that they hold anyway, Python's GIL. The aggregator's thread
// touches nothing of the engine's.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

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
  std::string name;              ///< of the file, without ".cbor"; gets a number if it is taken
  std::string counts;            ///< path of the shared counters (counter.h); may be empty
  Json header = Json::object();  ///< extra members of the first record
  AggregatorOptions aggregator;
  std::size_t staging_bytes = 64u << 20;
  std::size_t queue_bytes = 64u << 20;
};

/// A tensor of a call: the location and layout of its values.
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
  /// Calls stop().
  ~Recorder();

  /// What to log, once; empty while all is well. After a failure nothing more is recorded. The
  /// recorder itself has no log: its owner reports the failure.
  std::string failure() const { return has_failed_ ? failure_ : std::string(); }
  bool is_on() const { return !has_failed_ && !is_stopping_; }

  /// `function` holds function, module, signature, role ("function", "method", "plan", "init") and
  /// names; see Aggregator.
  std::uint32_t add_function(const Json& function);
  void add_name(std::uint32_t function, std::string_view name);

  /// A call, from begin_call() to send(). Reusable, by one thread.
  class CallBuilder {
   public:
    ArgumentWriter& arguments() { return arguments_; }
    void address(const void* data) {
      if (tensors_ < max_addresses) addresses_[tensors_] = reinterpret_cast<std::uint64_t>(data);
      ++tensors_;
    }
    /// Forgets the tensors from this one on.
    void take_back_tensors(std::uint16_t count) { tensors_ = count; }
    /// How many tensors have been added so far.
    std::uint16_t tensors() const { return tensors_; }

   private:
    friend class Recorder;
    static constexpr std::size_t max_addresses = 24;
    // In order of use, to touch few cache lines: most calls find the caches full of the engine's
    // own data.
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
  /// caller must hold the lock.
  std::int16_t take_values(CallBuilder& call, const TensorView& tensor, std::uint16_t index,
                           std::uint64_t count, Device::Stream stream);
  /// Notes that the tensor's values are left out, because enough others were taken.
  void leave_out(CallBuilder& call, const TensorView& tensor, std::uint16_t index);
  /// Only as many elements of `content` count as the last element of `bound` says.
  void bound(CallBuilder& call, std::int16_t content, std::int16_t bound);
  /// A page table has a row for each sequence, of which the front counts: as many entries as the
  /// sequence has pages.
  struct Table {
    std::int16_t lengths = -1;  ///< the content with the sequences' lengths
    std::uint32_t page = 0;     ///< tokens in a page
  };
  /// Takes the front of each row of a page table, as far as sequences have reached so far.
  void take_table(CallBuilder& call, const TensorView& tensor, std::uint16_t index, Table table,
                  Device::Stream stream);
  /// Instead of taking values of a call that is being captured: they are taken before each replay
  /// of its graph, from the same memory. Returns the content's number.
  std::int16_t watch(CallBuilder& call, const TensorView& tensor, std::uint16_t index,
                     std::int32_t device, std::optional<Table> table = {});
  /// A call that was handed over to this recorder.
  struct Sent {
    std::uint64_t call = 0;      ///< its number; of one that was only counted, the first one's
    Repeats* repeats = nullptr;  ///< counts the calls that are the same; null: each is sent
    std::uint64_t epoch = 0;     ///< the only one that it recurs in; 0: any
    bool is_repeat = false;      ///< was only counted
  };
  /// Hands the call over. A call without values that recurs under the same plans is only counted.
  Sent send(CallBuilder& call);
  /// Counts a call that is the same as `sent`, which has `repeats`, without its description. False,
  /// and nothing is done, if it must be sent: after another plan, or when its counter was given to
  /// another call.
  bool repeat(const Sent& sent);
  /// Incremented with every plan: values rarely differ between calls under one plan.
  std::uint64_t epoch() const { return epoch_; }
  void raised(std::uint32_t function, std::uint64_t call);

  /// A graph's capture begins; returns the number that identifies its calls and replays. While any
  /// graph is being captured in the process, nothing is copied.
  std::uint64_t begin_capture();
  void end_capture();
  /// The graph is gone: it is not replayed any more.
  void forget_graph(std::uint64_t graph);
  /// Memory that belongs to the graph: what is in it before a replay is left from the last one.
  void forget_memory(std::uint64_t graph, std::uint64_t begin, std::uint64_t size);
  /// See Aggregator::columns.
  std::uint32_t columns() const { return aggregator_.columns(); }
  /// The engine takes a handle of the graph: what it launches with that is not seen.
  void expose(std::uint64_t graph);
  /// The device on which the graph has inputs that are to be read; nothing: on none.
  std::optional<std::int32_t> device_of(std::uint64_t graph) const;
  /// Before the replay; `stream` is the one it is launched on.
  void replay(std::uint64_t graph, std::uint8_t flags, Device::Stream stream = nullptr);
  void set_batch(std::uint64_t sequences);

  /// Sets the device for device tensors; otherwise the CUDA driver of this process is looked up.
  void set_device(std::unique_ptr<Device> device);

  /// In a forked child: its calls are not this process's.
  void forget_counts() { counts_ = nullptr; }

  /// Writes what is left, waits at most two seconds for the disk, and stops. The engine's side may
  /// keep calling.
  void stop();

 private:
  /// An index tensor that a graph's calls read, where it was at the capture: rows, in elements.
  struct GraphInput {
    const void* data = nullptr;  ///< null: not to be read
    std::uint32_t element_size = 0;
    std::uint64_t rows = 1, row = 0, pitch = 0;
    bool is_table = false;
    bool has_lengths = false;  ///< of a table: without them nobody knows how many pages are in use
    bool is_same(const GraphInput& other) const {
      return data == other.data && element_size == other.element_size && rows == other.rows &&
             row == other.row && pitch == other.pitch && is_table == other.is_table;
    }
  };
  struct Graph {
    std::vector<GraphInput> inputs;
    std::int32_t device = 0;  ///< of the inputs
    std::uint64_t replays = 0;
    bool has_plans = false;
    bool is_taken(const GraphInput& input) const;
  };
  std::vector<Content> take_inputs(Graph& graph, Device::Stream stream, std::uint64_t& job);
  std::uint64_t columns_of(std::uint64_t rows, std::uint64_t width, std::uint64_t element) const;

  /// Calls that were sent and may recur: a 4-way set-associative cache, one cache line per set.
  static constexpr std::size_t sets = 128, ways = 4;
  struct Known {
    std::uint64_t key = 0;
    Repeats* repeats = nullptr;
  };
  struct alignas(64) KnownSet {
    Known ways_[ways];
  };

  std::uint64_t epoch_of(const CallBuilder& call) const;
  std::uint64_t key_of(const CallBuilder& call) const;
  Known* find_known(std::uint64_t key);
  Known* new_known(std::uint64_t key);
  bool ensure_device(Device::Stream stream);
  void push(std::span<const std::byte> event, Queue::Limit limit);
  void push(EventHeader header, const Json& body);
  void run();
  bool consume(bool is_last, bool has_room);
  void describe_process();
  void count_call();
  void count_repeat(Repeats& repeats);
  void claim_counts();
  void flush(std::string frames);
  void leave_counts();
  void wait_for_first_write() const;
  void fail(std::string why);

  RecorderOptions options_;
  std::string header_;  ///< the first frame; aggregator thread only
  Queue queue_;
  Staging staging_;
  Aggregator aggregator_;
  std::unique_ptr<RecordingFile> file_;  ///< aggregator thread only
  std::unique_ptr<Device> device_;       ///< engine's side only
  bool has_looked_for_device_ = false, has_device_failed_ = false;
  std::uint64_t next_call_ = 0, next_graph_ = 0, epoch_ = 1;
  /// Written by the engine's side, one thread at a time.
  std::atomic<std::uint64_t> calls_made_{0}, replays_made_{0};
  std::atomic<recording::CountsSlot*> counts_{nullptr};
  std::array<KnownSet, sets> known_;
  RepeatsPool repeats_;
  unsigned next_way_ = 0;
  std::vector<bool> is_plan_;  ///< by function
  std::uint32_t next_function_ = 0;
  unsigned captures_ = 0;
  /// Those with inputs or plans; engine's side only.
  std::unordered_map<std::uint64_t, Graph> graphs_;
  std::atomic<std::uint64_t> events_lost_{0};

  std::string failure_;  ///< set before has_failed_
  std::atomic<bool> has_failed_{false}, is_stopping_{false};
  std::atomic<bool> has_written_{false};  ///< the first calls
  bool has_waited_ = false;               ///< for has_written_; engine's side only
  std::thread thread_;
};

}  // namespace cw::recorder
