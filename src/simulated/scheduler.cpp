#include "simulated/scheduler.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <numeric>

#include <fnmatch.h>
#include <signal.h>
#include <unistd.h>

#include "base/hash.h"

namespace cw::simulated {
namespace {

// Addresses of wrapper objects; any distinct values will do.
constexpr std::uint64_t decode_wrapper = 0x7f0000001000, ragged_wrapper = 0x7f0000002000,
                        paged_wrapper = 0x7f0000003000, mla_wrapper = 0x7f0000004000,
                        mla_decode_wrapper = 0x7f0000005000;
constexpr std::int64_t unused_indices = 256;  // at the end of SGLang's prefill index buffer

constexpr std::array words{"the ",  "of ",    "model ", "kernel ", "with ",  "batch ",
                           "page ", "and ",   "token ", "cache ",  "layer ", "is ",
                           "a ",    "query ", "to ",    "value "};

std::vector<std::string> split_patterns(const char* text) {
  std::vector<std::string> patterns;
  for (std::string_view rest = text != nullptr ? text : ""; !rest.empty();) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    if (comma > 0) patterns.emplace_back(rest.substr(0, comma));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return patterns;
}

bool matches_any(const std::vector<std::string>& patterns, const std::string& function) {
  return std::ranges::any_of(patterns, [&function](const std::string& pattern) {
    return ::fnmatch(pattern.c_str(), function.c_str(), 0) == 0;
  });
}

std::int32_t next_token(const std::vector<std::int32_t>& tokens) {
  return static_cast<std::int32_t>(
      xxh3_64({reinterpret_cast<const char*>(&tokens.back()), sizeof tokens.back()}) % 30'000);
}

}  // namespace

DumpOptions DumpOptions::from_environment() {
  DumpOptions options;
  const char* level = std::getenv("FLASHINFER_LOGLEVEL");
  const char* folder = std::getenv("FLASHINFER_DUMP_DIR");
  if (level == nullptr || std::atoi(level) < 10 || folder == nullptr) return options;
  options.folder = folder;
  options.include = split_patterns(std::getenv("FLASHINFER_DUMP_INCLUDE"));
  options.exclude = split_patterns(std::getenv("FLASHINFER_DUMP_EXCLUDE"));
  if (const char* count = std::getenv("FLASHINFER_DUMP_MAX_COUNT"))
    options.max_count = std::strtoull(count, nullptr, 10);
  return options;
}

Scheduler::Scheduler(SchedulerOptions options, const DumpOptions& dumps, Misbehaviour misbehaviour)
    : options_(std::move(options)),
      dumps_(dumps),
      misbehaviour_(misbehaviour),
      pool_(options_.max_total_tokens, options_.has_prefix_cache) {
  if (!dumps_.folder.empty())
    for (int rank = 0; rank < options_.tensor_parallel; ++rank)
      writers_.emplace_back(dumps_.folder, ::getpid() + rank, DumpWriter::Clock::real);
  thread_ = std::thread([this] { loop(); });
}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

std::uint64_t Scheduler::submit(GenerateRequest request) {
  std::uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    arrived_.push_back(std::move(request));
    arrived_ids_.push_back(id = ++last_id_);
  }
  wake_.notify_all();
  return id;
}

void Scheduler::cancel(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  cancelled_.push_back(id);
}

void Scheduler::loop() {
  for (;;) {
    std::list<std::uint64_t> cancelled;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] {
        return is_stopping_ || !arrived_.empty() || !waiting_.empty() || !running_.empty();
      });
      if (is_stopping_) return;
      for (auto id = arrived_ids_.begin(); !arrived_.empty(); arrived_.pop_front(), ++id) {
        Sequence sequence{.id = *id, .request = std::move(arrived_.front())};
        sequence.tokens = sequence.request.prompt;
        waiting_.push_back(std::move(sequence));
      }
      arrived_ids_.clear();
      cancelled.swap(cancelled_);
    }

    // Drop requests whose clients have gone away.
    for (const std::uint64_t id : cancelled)
      for (auto* list : {&waiting_, &running_})
        list->remove_if([&](Sequence& sequence) {
          if (sequence.id != id) return false;
          pool_.release(sequence.tokens, sequence.slots, sequence.cached);
          return true;
        });

    // One step: a prefill if anything waits and fits, otherwise a decode.
    const auto begin = std::chrono::steady_clock::now();
    std::int64_t prefilled = 0;
    if (const auto batch = next_prefill(); !batch.empty()) {
      for (const Extension& part : batch) prefilled += part.length;
      prefill(batch);
    } else if (!running_.empty()) {
      decode();
    } else {
      continue;
    }

    // A step takes as long as the options say.
    running_count_ = running_.size();
    if (++steps_ == misbehaviour_.after) misbehave();
    const double ms = prefilled > 0
                          ? static_cast<double>(prefilled) * options_.prefill_token_us / 1000
                          : options_.decode_step_ms;
    std::this_thread::sleep_until(begin +
                                  std::chrono::microseconds(static_cast<std::int64_t>(ms * 1000)));
  }
}

// What fits from the waiting queue, in order; of a long prompt, a part.
std::vector<Scheduler::Extension> Scheduler::next_prefill() {
  std::vector<Extension> batch;
  std::int64_t budget = options_.chunked_prefill_size;
  for (Sequence& sequence : waiting_) {
    if (static_cast<std::int64_t>(running_.size() + batch.size()) >= options_.max_running ||
        budget == 0)
      break;

    if (sequence.slots.empty()) {
      sequence.slots = pool_.match(sequence.tokens);
      sequence.cached = sequence.slots.size();
    }

    const auto prefix = static_cast<std::int64_t>(sequence.slots.size());
    const std::int64_t rest = static_cast<std::int64_t>(sequence.tokens.size()) - prefix;
    const std::int64_t length = std::min(rest, budget);
    // A page for each running sequence's next token stays free.
    if (pool_.available() < length + static_cast<std::int64_t>(running_.size() + batch.size()) ||
        !pool_.allocate(length, sequence.slots)) {
      if (sequence.slots.size() == sequence.cached)
        give_back(sequence);  // only its cached prefix, not started
      break;
    }

    budget -= length;
    batch.push_back({&sequence, prefix, length, length == rest});
  }
  return batch;
}

void Scheduler::prefill(const std::vector<Extension>& batch) {
  if (options_.shape.attention == ModelShape::Attention::mla)
    write_mla_prefill(batch);
  else
    write_prefill(batch);
  std::vector<Sequence*> sampled;
  for (const Extension& part : batch)
    if (part.is_whole) sampled.push_back(part.sequence);
  write_sampling(sampled);
  for (auto sequence = waiting_.begin(); sequence != waiting_.end();) {
    const auto current = sequence++;
    if (std::ranges::find(sampled, &*current) == sampled.end()) continue;
    running_.splice(running_.end(), waiting_, current);
    deliver(*current);
    if (current->made >= current->request.max_new_tokens) finish(current);
  }
}

// Makes room for the last token of each running sequence; requeues sequences until there is enough.
bool Scheduler::make_room() {
  const auto is_short = [this] {
    return pool_.available() < static_cast<std::int64_t>(running_.size());
  };
  while (is_short() && running_.size() > 1) {
    give_back(running_.back());
    waiting_.splice(waiting_.begin(), running_, std::prev(running_.end()));
  }
  for (auto sequence = waiting_.rbegin(); is_short() && sequence != waiting_.rend(); ++sequence)
    give_back(*sequence);
  for (Sequence& sequence : running_)
    if (!pool_.allocate(1, sequence.slots)) return false;
  return true;
}

// Returns all of a sequence's slots; it starts over.
void Scheduler::give_back(Sequence& sequence) {
  pool_.release(sequence.tokens, sequence.slots, sequence.cached);
  sequence.slots.clear();
  sequence.cached = 0;
}

void Scheduler::decode() {
  if (!make_room()) {  // one sequence fills the pool: end it here, as engines do
    running_.front().request.max_new_tokens = 0;
  } else {
    write_decode();
    std::vector<Sequence*> sampled;
    for (Sequence& sequence : running_) sampled.push_back(&sequence);
    write_sampling(sampled);
  }
  for (auto sequence = running_.begin(); sequence != running_.end();) {
    const auto current = sequence++;
    deliver(*current);
    if (current->made >= current->request.max_new_tokens) finish(current);
  }
}

void Scheduler::deliver(Sequence& sequence) {
  const std::int32_t token = next_token(sequence.tokens);
  sequence.tokens.push_back(token);
  ++sequence.made;
  sequence.request.on_token({words[static_cast<std::size_t>(token) % words.size()], sequence.made,
                             sequence.made >= sequence.request.max_new_tokens});
}

void Scheduler::finish(std::list<Sequence>::iterator sequence) {
  pool_.release(sequence->tokens, sequence->slots, sequence->cached);
  running_.erase(sequence);
}

void Scheduler::misbehave() {
  using Kind = Misbehaviour::Kind;
  if (misbehaviour_.kind == Kind::die) ::raise(SIGKILL);
  if (misbehaviour_.kind == Kind::half_dump) {
    for (DumpWriter& writer : writers_) writer.write_half(rmsnorm(1, options_.shape.hidden));
    ::raise(SIGKILL);
  }
  if (misbehaviour_.kind == Kind::hang) {
    for (std::unique_lock lock(mutex_); !is_stopping_;) wake_.wait(lock);
  }
  if (misbehaviour_.kind == Kind::fill_disk) {
    std::ofstream file(dumps_.folder / "filler", std::ios::app | std::ios::binary);
    const std::string block(1 << 20, 'x');
    while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
      const std::lock_guard lock(mutex_);
      if (is_stopping_) return;
    }
  }
}

bool Scheduler::is_dumped(const std::string& function) const {
  if (matches_any(dumps_.exclude, function)) return false;
  return dumps_.include.empty() || matches_any(dumps_.include, function);
}

void Scheduler::write(const DumpCall& call) {
  if (writers_.empty() || written_ >= dumps_.max_count || !is_dumped(call.function)) return;
  ++written_;
  for (DumpWriter& writer : writers_) writer.write(call);
}

// A norm before attention and one before the MLP in every layer, one at the end; the first has no
// residual.
void Scheduler::write_layers(std::int64_t tokens, const std::function<void()>& attention) {
  const std::int64_t hidden = options_.shape.hidden;
  for (std::int64_t layer = 0; layer < options_.shape.layers; ++layer) {
    write(layer == 0 ? rmsnorm(tokens, hidden) : fused_add_rmsnorm(tokens, hidden));
    attention();
    write(fused_add_rmsnorm(tokens, hidden));
  }
  write(fused_add_rmsnorm(tokens, hidden));
}

void Scheduler::write_prefill(const std::vector<Extension>& batch) {
  const ModelShape& shape = options_.shape;
  const Heads heads{
      .qo = shape.qo_heads, .kv = shape.kv_heads, .dim = shape.head_dim, .pool = pool_.size() + 1};

  // Queries, and the slots of what they attend to.
  std::vector<std::int64_t> qo{0}, prefixes{0}, indices;
  for (const Extension& part : batch) {
    qo.push_back(qo.back() + part.length);
    const std::int64_t cached =
        options_.uses_paged_prefill ? part.prefix + part.length : part.prefix;
    prefixes.push_back(prefixes.back() + cached);
    indices.insert(indices.end(), part.sequence->slots.begin(),
                   part.sequence->slots.begin() + cached);
  }
  indices.resize(indices.size() + unused_indices, 0);

  const bool has_prefix = prefixes.back() > 0 && !options_.uses_paged_prefill;
  if (!options_.uses_paged_prefill) write(ragged_plan(ragged_wrapper, qo, heads));
  write(paged_plan(paged_wrapper, qo, prefixes, indices, heads));
  write_layers(qo.back(), [&] {
    if (options_.uses_paged_prefill)
      return write(paged_run(paged_wrapper, qo.back(), false, heads));
    write(ragged_run(ragged_wrapper, qo.back(), has_prefix, heads));
    if (has_prefix) write(paged_run(paged_wrapper, qo.back(), true, heads));
  });
}

void Scheduler::write_mla_prefill(const std::vector<Extension>& batch) {
  const ModelShape& shape = options_.shape;
  std::vector<std::int64_t> qo{0}, kv{0}, indices, lengths;
  bool has_prefix = false;
  for (const Extension& part : batch) {
    qo.push_back(qo.back() + part.length);
    lengths.push_back(part.prefix + part.length);
    kv.push_back(kv.back() + lengths.back());
    indices.insert(indices.end(), part.sequence->slots.begin(),
                   part.sequence->slots.begin() + lengths.back());
    has_prefix |= part.prefix > 0;
  }

  // Without a prefix, over the full heads; with one, absorbed, over the compressed cache.
  if (!has_prefix && options_.uses_ragged_mla) {
    const Heads heads{.qo = shape.qo_heads,
                      .kv = shape.qo_heads,
                      .dim = shape.qk_nope + shape.qk_rope,
                      .vo_dim = shape.v_head_dim};
    write(mla_ragged_plan(ragged_wrapper, qo, qo, true, heads));
    write_layers(qo.back(), [&] { write(ragged_run(ragged_wrapper, qo.back(), false, heads)); });
    return;
  }
  write(mla_plan(mla_wrapper, qo, kv, indices, lengths, true, shape.sm_scale, 1, shape.qo_heads));
  write_layers(qo.back(), [&] {
    write(mla_run(mla_wrapper, qo.back(), pool_.size() + 1, 1, shape.qo_heads));
  });
}

void Scheduler::write_decode() {
  const ModelShape& shape = options_.shape;
  const auto count = static_cast<std::int64_t>(running_.size());

  std::vector<std::int64_t> indptr{0}, indices, lengths;
  for (const Sequence& sequence : running_) {
    lengths.push_back(static_cast<std::int64_t>(sequence.slots.size()));
    indptr.push_back(indptr.back() + lengths.back());
    indices.insert(indices.end(), sequence.slots.begin(), sequence.slots.end());
  }

  if (shape.attention == ModelShape::Attention::mla) {
    std::vector<std::int64_t> qo(running_.size() + 1);
    std::iota(qo.begin(), qo.end(), 0);
    write(mla_plan(mla_decode_wrapper, qo, indptr, indices, lengths, false, shape.sm_scale, 1,
                   shape.qo_heads));
    write_layers(count, [&] {
      write(mla_run(mla_decode_wrapper, count, pool_.size() + 1, 1, shape.qo_heads));
    });
    return;
  }

  const Heads heads{
      .qo = shape.qo_heads, .kv = shape.kv_heads, .dim = shape.head_dim, .pool = pool_.size() + 1};
  write(decode_plan(decode_wrapper, indptr, indices, heads));
  write_layers(count, [&] { write(decode_run(decode_wrapper, count, heads)); });
}

// Greedy batches take the argmax and call nothing.
void Scheduler::write_sampling(const std::vector<Sequence*>& sequences) {
  std::vector<std::int64_t> top_k;
  std::vector<float> top_p;
  bool is_needed = false;
  for (const Sequence* sequence : sequences) {
    const GenerateRequest& request = sequence->request;
    top_k.push_back(request.is_greedy ? 1 : request.top_k);
    top_p.push_back(request.top_p);
    is_needed |= !request.is_greedy && (request.top_k < 1 << 30 || request.top_p < 1);
  }
  if (is_needed) write(sampling(top_k, top_p, options_.shape.vocabulary));
}

}  // namespace cw::simulated
