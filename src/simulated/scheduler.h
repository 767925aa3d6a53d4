// A continuous-batching scheduler as SGLang has it, without a model: waiting queue, chunked
// prefill, decode batches, a page pool with a prefix cache, retraction when the pool is full. Every
// forward step writes the FlashInfer calls that the real engine would make, on every tensor
// parallel rank.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "simulated/dump_writer.h"
#include "simulated/model.h"
#include "simulated/page_pool.h"

namespace cw::simulated {

struct SchedulerOptions {
  ModelShape shape;
  int tensor_parallel = 1;
  std::int64_t max_total_tokens = 65'536;
  std::int64_t chunked_prefill_size = 8192;
  std::int64_t max_running = 256;
  bool has_prefix_cache = true;
  /// SGLANG_FLASHINFER_USE_PAGED: paged prefill, alone and causal.
  bool uses_paged_prefill = false;
  bool uses_ragged_mla = true;   ///< off: --flashinfer-mla-disable-ragged
  double decode_step_ms = 4;     ///< how long a decode step takes
  double prefill_token_us = 20;  ///< how long a prefilled token takes
};

/// FLASHINFER_DUMP_* as FlashInfer reads them. `folder` is empty when level 10 is off.
struct DumpOptions {
  std::filesystem::path folder;
  std::vector<std::string> include, exclude;  ///< fnmatch patterns; no include means all
  std::uint64_t max_count = 1000;

  static DumpOptions from_environment();
};

/// What a request is told, from the scheduler's thread.
struct TokenEvent {
  std::string text;         ///< the new token's
  std::int64_t tokens = 0;  ///< made so far
  bool is_last = false;
};

struct GenerateRequest {
  std::vector<std::int32_t> prompt;
  std::int64_t max_new_tokens = 16;
  std::int32_t top_k = 1 << 30;
  float top_p = 1;
  bool is_greedy = false;
  std::function<void(const TokenEvent&)> on_token;
};

/// What to do wrong, for tests: at forward step number `after`.
struct Misbehaviour {
  enum class Kind { none, die, hang, fill_disk, half_dump };
  Kind kind = Kind::none;
  std::int64_t after = 20;
};

class Scheduler {
 public:
  Scheduler(SchedulerOptions options, const DumpOptions& dumps, Misbehaviour misbehaviour);
  ~Scheduler();

  /// Any thread. Returns a number to cancel by.
  std::uint64_t submit(GenerateRequest request);
  void cancel(std::uint64_t id);
  const SchedulerOptions& options() const { return options_; }
  std::size_t running() const { return running_count_; }

 private:
  struct Sequence {
    std::uint64_t id = 0;
    GenerateRequest request;
    std::vector<std::int32_t> tokens;  ///< prompt and what was made
    std::vector<std::int64_t> slots;   ///< of tokens that are in the pool
    std::size_t cached = 0;            ///< of them, found in the prefix cache
    std::int64_t made = 0;
  };
  /// A part of one sequence in a prefill batch.
  struct Extension {
    Sequence* sequence;
    std::int64_t prefix, length;
    bool is_whole;  ///< the prompt ends with it
  };

  void loop();
  bool step();
  std::vector<Extension> next_prefill();
  void prefill(const std::vector<Extension>& batch);
  void decode();
  bool make_room();
  void give_back(Sequence& sequence);
  void deliver(Sequence& sequence);
  void finish(std::list<Sequence>::iterator sequence);
  void misbehave();

  bool is_dumped(const std::string& function) const;
  void write(const DumpCall& call);
  void write_layers(std::int64_t tokens, const std::function<void()>& attention);
  void write_prefill(const std::vector<Extension>& batch);
  void write_mla_prefill(const std::vector<Extension>& batch);
  void write_decode();
  void write_sampling(const std::vector<Sequence*>& sequences);

  SchedulerOptions options_;
  DumpOptions dumps_;
  Misbehaviour misbehaviour_;
  std::vector<DumpWriter> writers_;  ///< one a rank
  std::uint64_t written_ = 0;
  PagePool pool_;
  std::int64_t steps_ = 0;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::list<GenerateRequest> arrived_;
  std::list<std::uint64_t> arrived_ids_, cancelled_;
  std::uint64_t last_id_ = 0;
  bool is_stopping_ = false;

  std::list<Sequence> waiting_, running_;
  std::atomic<std::size_t> running_count_ = 0;
  std::thread thread_;
};

}  // namespace cw::simulated
