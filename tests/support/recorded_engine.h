// A small engine that calls the recorder as the Python module does, and a device whose copies take
// their time.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "capture/recorder/recording_capture.h"
#include "core/recorder.h"
#include "support/fixture.h"

namespace cw::testing {

/// A device with one stream: what is put on it happens later, in order, in a thread of its own.
class SlowDevice final : public recorder::Device {
 public:
  struct Control {
    std::atomic<bool> is_stuck{false}, is_capturing{false}, refuses{false};
    std::atomic<int> copies{0}, pending{0};
    /// Until everything that was put on the stream is done.
    void wait() const {
      while (pending > 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  };
  explicit SlowDevice(std::shared_ptr<Control> control)
      : control_(std::move(control)), thread_([this] { work(); }) {}
  ~SlowDevice() override {
    {
      const std::lock_guard lock(mutex_);
      is_ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  bool attach(std::byte*, std::size_t) override { return !control_->refuses; }
  bool is_capturing(Stream) override { return control_->is_capturing; }
  bool copy(std::byte* to, const void* from, std::size_t row, std::size_t rows, std::size_t pitch,
            Stream) override {
    ++control_->copies;
    put([=] {
      for (std::size_t i = 0; i < rows; ++i)
        std::memcpy(to + i * row, static_cast<const std::byte*>(from) + i * pitch, row);
    });
    return true;
  }
  bool mark(std::uint64_t* to, std::uint64_t value, Stream) override {
    put([=] { std::atomic_ref(*to).store(value, std::memory_order_release); });
    return true;
  }

 private:
  void put(std::function<void()> task) {
    ++control_->pending;
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_all();
  }
  void work() {
    for (;;) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, std::chrono::milliseconds(1), [this] {
          return is_ending_ || (!tasks_.empty() && !control_->is_stuck);
        });
        if (is_ending_) return;
        if (tasks_.empty() || control_->is_stuck) continue;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
      task();
      --control_->pending;
    }
  }

  std::shared_ptr<Control> control_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool is_ending_ = false;
  std::thread thread_;
};

/// Calls of one process into a recording.
class RecordedEngine {
 public:
  using Indices = std::vector<std::int32_t>;

  explicit RecordedEngine(const std::filesystem::path& folder,
                          recorder::AggregatorOptions options = {}, std::size_t staging = 1 << 20,
                          std::size_t queue = 8 << 20)
      : recorder_(std::make_unique<recorder::Recorder>(
            recorder::RecorderOptions{.folder = folder.string(),
                                      .name = "engine",
                                      .header = {{"process", 7}},
                                      .aggregator = options,
                                      .staging_bytes = staging,
                                      .queue_bytes = queue})) {
    plan_function_ =
        recorder_->add_function({{"function", "BatchDecodeWithPagedKVCacheWrapper.plan"},
                                 {"module", "flashinfer.decode"},
                                 {"signature",
                                  "(self, indptr, indices, last_page_len, num_qo_heads, "
                                  "num_kv_heads, head_dim, page_size)"},
                                 {"role", "plan"},
                                 {"version", "0.6.15"},
                                 {"names",
                                  {"self", "indptr", "indices", "last_page_len", "num_qo_heads",
                                   "num_kv_heads", "head_dim", "page_size"}}});
    run_function_ =
        recorder_->add_function({{"function", "BatchDecodeWithPagedKVCacheWrapper.run"},
                                 {"module", "flashinfer.decode"},
                                 {"signature", "(self, q, paged_kv_cache)"},
                                 {"role", "method"},
                                 {"names", {"self", "q", "paged_kv_cache", "self._sm_scale"}}});
    table_function_ = recorder_->add_function(
        {{"function", "xqa_batch_decode_with_kv_cache"},
         {"module", "flashinfer.decode"},
         {"signature", "(query, kv_cache, block_tables, seq_lens, bmm1_scale, kv_layout = 'NHD')"},
         {"role", "function"},
         {"names", {"query", "kv_cache", "block_tables", "seq_lens", "bmm1_scale"}}});
    norm_function_ = recorder_->add_function({{"function", "rmsnorm"},
                                              {"module", "flashinfer.norm"},
                                              {"signature", "(input, weight, eps = 1e-6)"},
                                              {"role", "function"},
                                              {"names", {"input", "weight", "eps"}}});
  }

  recorder::Recorder& recorder() { return *recorder_; }
  void end() { recorder_.reset(); }
  /// Tensors on the device are one's from here on.
  std::shared_ptr<SlowDevice::Control> use_slow_device() {
    auto control = std::make_shared<SlowDevice::Control>();
    recorder_->set_device(std::make_unique<SlowDevice>(control));
    return control;
  }

  /// `buffer`: how many entries the buffer of indices has; by default 100 more than are used.
  std::uint64_t plan(std::uint64_t wrapper, const Indices& lengths, std::int32_t first = 0,
                     bool on_device = false, std::uint8_t flags = 0, std::uint64_t graph = 0,
                     std::optional<std::size_t> buffer = {}) {
    auto indptr = std::make_shared<Indices>(1, 0), indices = std::make_shared<Indices>();
    for (const std::int32_t length : lengths) indptr->push_back(indptr->back() + length);
    for (std::int32_t i = 0; i < indptr->back(); ++i) indices->push_back(first + i);
    auto last = std::make_shared<Indices>(lengths.size(), 1);
    kept_.insert(kept_.end(),
                 {indptr, indices, last});  // device memory, as long as copies may be under way
    // Unused entries, as in SGLang's buffers.
    indices->resize(buffer.value_or(indices->size() + 100), 1 << 30);
    recorder_->begin_call(call_, plan_function_, wrapper, flags, graph);
    const recorder::TensorView views[] = {view(*indptr, on_device), view(*indices, on_device),
                                          view(*last, on_device)};
    for (std::uint16_t i = 0; i < 3; ++i) tensor(static_cast<std::uint16_t>(i + 1), views[i]);
    for (std::uint16_t i = 0; const std::int64_t number : {32, 8, 128, 1}) {
      call_.arguments().name(static_cast<std::uint16_t>(4 + i++));
      call_.arguments().integer(number);
    }
    if (graph != 0)
      for (std::uint16_t i = 0; i < 3; ++i) recorder_->watch(call_, views[i], i, 0);
    if (graph == 0 && flags == 0) {
      std::int16_t contents[3];
      for (std::uint16_t i = 0; i < 3; ++i)
        contents[i] = recorder_->take_values(call_, views[i], i, ~std::uint64_t{0}, nullptr);
      recorder_->bound(call_, contents[1], contents[0]);
    }
    return recorder_->send(call_).call;
  }

  std::uint64_t run(std::uint64_t wrapper, std::int64_t batch, std::uint8_t flags = 0,
                    std::uint64_t graph = 0) {
    static const std::int32_t place[2] = {};
    const std::int64_t q[] = {batch, 32, 128}, kv[] = {1 << 20, 8, 128};
    recorder_->begin_call(call_, run_function_, wrapper, flags, graph);
    tensor(1, {recorder::element_type("bfloat16"), q, {}, &place[0], true});
    call_.arguments().name(2);
    call_.arguments().sequence(2, 2);
    for (int i = 0; i < 2; ++i)
      bare_tensor({recorder::element_type("bfloat16"), kv, {}, &place[1], true});
    call_.arguments().name(3);
    call_.arguments().real(0.0883);
    return recorder_->send(call_).call;
  }

  std::uint64_t norm(std::int64_t rows, std::uint8_t flags = 0, std::uint64_t graph = 0) {
    const std::int64_t input[] = {rows, 4096}, weight[] = {4096};
    recorder_->begin_call(call_, norm_function_, 0, flags, graph);
    tensor(0, {recorder::element_type("bfloat16"), input, {}, nullptr, true});
    tensor(1, {recorder::element_type("bfloat16"), weight, {}, nullptr, true});
    call_.arguments().name(2);
    call_.arguments().real(1e-5);
    return recorder_->send(call_).call;
  }

  /// A decode through a page table in the device's memory, which stays the caller's: a row for
  /// each of `lengths`, pages of 64 tokens.
  std::uint64_t decode_by_table(const Indices& table, const Indices& lengths,
                                std::uint8_t flags = 0, std::uint64_t graph = 0,
                                std::int64_t table_rows = 0) {
    static const std::int32_t place[2] = {};
    const auto batch = static_cast<std::int64_t>(lengths.size());
    if (table_rows == 0) table_rows = batch;
    const std::int64_t q[] = {batch, 32, 128}, kv[] = {1 << 20, 64, 8, 128},
                       rows[] = {table_rows, static_cast<std::int64_t>(table.size()) / table_rows};
    recorder_->begin_call(call_, table_function_, 0, flags, graph);
    tensor(0, {recorder::element_type("bfloat16"), q, {}, &place[0], true});
    call_.arguments().name(1);
    call_.arguments().sequence(2, 2);
    for (int i = 0; i < 2; ++i)
      bare_tensor({recorder::element_type("bfloat16"), kv, {}, &place[1], true});
    const recorder::TensorView pages{recorder::element_type("int32"), rows, {}, table.data(), true},
        tokens = view(lengths, true);
    tensor(2, pages);
    tensor(3, tokens);
    call_.arguments().name(4);
    call_.arguments().real(0.125);
    if (graph != 0) {
      const std::int16_t taken = recorder_->watch(call_, tokens, 4, 0);
      recorder_->watch(call_, pages, 3, 0, recorder::Recorder::Table{taken, 64});
    } else if (flags == 0) {
      const std::int16_t taken =
          recorder_->take_values(call_, tokens, 4, ~std::uint64_t{0}, nullptr);
      recorder_->take_table(call_, pages, 3, {taken, 64}, nullptr);
    }
    return recorder_->send(call_).call;
  }

  /// Frees index tensors in the host's memory: those have been copied.
  void forget_values() { kept_.clear(); }
  void raised(std::uint64_t call) { recorder_->raised(run_function_, call); }

 private:
  static recorder::TensorView view(const Indices& values, bool on_device) {
    static thread_local std::deque<std::int64_t> shapes;
    shapes.push_back(static_cast<std::int64_t>(values.size()));
    return {recorder::element_type("int32"), {&shapes.back(), 1}, {}, values.data(), on_device};
  }
  void tensor(std::uint16_t name, const recorder::TensorView& what) {
    call_.arguments().name(name);
    bare_tensor(what);
  }
  void bare_tensor(const recorder::TensorView& what) {
    call_.arguments().tensor(what.type, what.shape, what.is_on_device);
    call_.address(what.data);
  }

  std::vector<std::shared_ptr<Indices>> kept_;  // longer than the recorder, whose device reads it
  std::unique_ptr<recorder::Recorder> recorder_;
  recorder::Recorder::CallBuilder call_;
  std::uint32_t plan_function_ = 0, run_function_ = 0, table_function_ = 0, norm_function_ = 0;
};

}  // namespace cw::testing
