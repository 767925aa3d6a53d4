#include "sanitize/survey.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <unordered_map>

#include <tbb/parallel_pipeline.h>

#include "sanitize/retained_workloads.h"
#include "sanitize/startup.h"

namespace cw {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t batch_size = 64;
constexpr std::size_t max_batches = 16;
// With a deadline, batches are kept small: those under way are finished after it.
constexpr std::chrono::milliseconds batch_time{4};

struct BoundWorkload {
  const Target* target;
  WorkloadNotes notes;
  Workload workload;
  Hash128 key;
};

// A call that matches, without the values that make a workload.
struct FittingCall {
  const Target* target;
  std::optional<std::int64_t> sequences;
  std::vector<std::int64_t> axes;
  Rejection unseen;
};

// The outcome of a call, shared by the calls of all layers of a step.
struct Outcome {
  std::vector<BoundWorkload> workloads;
  std::vector<FittingCall> fitting;
  std::optional<Rejection> rejection;

  bool is_sampled() const {
    return workloads.empty() && !fitting.empty() &&
           fitting[0].unseen.reason == "values_sampled_out";
  }
};

struct BoundCall {
  CallInContext context;
  std::shared_ptr<const Outcome> outcome;
};

// Outcomes by shape key, for calls whose outcome depends on nothing else.
class OutcomeCache {
 public:
  std::shared_ptr<const Outcome> find(const Hash128& key) const {
    const std::shared_lock lock(mutex_);
    const auto found = outcomes_.find(key);
    return found == outcomes_.end() ? nullptr : found->second;
  }

  void add(const Hash128& key, std::shared_ptr<const Outcome> outcome) {
    const std::unique_lock lock(mutex_);
    if (outcomes_.size() >= max_outcomes) outcomes_.clear();
    outcomes_.insert_or_assign(key, std::move(outcome));
  }

 private:
  static constexpr std::size_t max_outcomes = 1024;
  mutable std::shared_mutex mutex_;
  std::unordered_map<Hash128, std::shared_ptr<const Outcome>> outcomes_;
};

struct Batch {
  std::size_t begin = 0, end = 0;
  bool is_starting = false;
  std::vector<Result<std::shared_ptr<const Call>>> calls;  ///< null: not read, as nothing binds it
  std::vector<CallInContext> ready;
  std::vector<BoundCall> bound;
};

using BatchPtr = std::shared_ptr<Batch>;

// A shape is what a call shows without values: pool sizes are left out, as they follow from values.
Distribution empty_distribution(const Target& target) {
  std::vector<std::string> names;
  std::vector<std::size_t> shape;
  for (const Axis& axis : target.definition->axes) {
    if (axis.constant) continue;
    const auto is_its_pool = [&axis](const PoolAxis& pool) { return pool.axis == axis.name; };
    if (std::ranges::none_of(target.binding->pools, is_its_pool)) shape.push_back(names.size());
    names.push_back(axis.name);
  }
  return {std::move(names), std::move(shape)};
}

}  // namespace

class Surveyor::Run {
 public:
  Run(const Capture& capture, const BindingSet& bindings, const Binder& binder,
      const SurveyOptions& options)
      : capture_(capture), binder_(binder), options_(options), association_(bindings) {
    if (options.is_whole) startup_ = ends_of_startup(capture, bindings);
  }

  void set_starting(bool is_starting) { is_starting_ = is_starting; }

  bool advance(Deadline deadline) {
    deadline_ = deadline;
    using Mode = tbb::filter_mode;
    tbb::parallel_pipeline(
        max_batches,
        tbb::make_filter<void, BatchPtr>(Mode::serial_in_order, [this](tbb::flow_control& flow) {
          return take(flow);
        }) & tbb::make_filter<BatchPtr, BatchPtr>(Mode::parallel, [this](BatchPtr batch) {
          return read(std::move(batch));
        }) & tbb::make_filter<BatchPtr, BatchPtr>(Mode::serial_in_order, [this](BatchPtr batch) {
          return pair(std::move(batch));
        }) & tbb::make_filter<BatchPtr, BatchPtr>(Mode::parallel, [this](BatchPtr batch) {
          return bind(std::move(batch));
        }) & tbb::make_filter<BatchPtr, void>(Mode::serial_in_order, [this](const BatchPtr& batch) {
          count(*batch);
        }));
    note_examples();
    return next_ == capture_.size();
  }

  void restore(Survey survey) { survey_ = std::move(survey); }
  const Survey& current() const { return survey_; }

  Survey finish() {
    // Calls that waited to the end for a neighbour.
    const auto rest = std::make_shared<Batch>();
    rest->begin = rest->end = capture_.size();
    association_.finish(rest->ready);
    count(*bind(rest));
    for (const CaptureDefect& defect : capture_.defects())
      survey_.tally.add_defect(defect.code, defect.message, defect.count);
    note_examples();
    return std::move(survey_);
  }

 private:
  // While the calls still exist: a capture may forget them.
  void note_examples() {
    for (auto& [key, item] : survey_.tally.items())
      if (item.example.empty() && item.first < capture_.size() && !key.function.empty())
        item.example = capture_.location(item.first);
  }

  BatchPtr take(tbb::flow_control& flow) {
    if (next_ == capture_.size() || Clock::now() >= deadline_) {
      flow.stop();
      return nullptr;
    }
    auto batch = std::make_shared<Batch>();
    batch->begin = next_;
    batch->is_starting = is_starting_;
    next_ = batch->end = std::min(next_ + next_batch_size(), capture_.size());
    return batch;
  }

  std::size_t next_batch_size() const {
    if (deadline_ == Deadline::max()) return batch_size;
    const auto call = std::max<std::int64_t>(nanoseconds_a_call_, 1);
    return static_cast<std::size_t>(std::clamp<std::int64_t>(
        std::chrono::nanoseconds(batch_time).count() / call, 1, batch_size));
  }

  // The pace of reading and binding, which run in parallel; the latest batch counts for a quarter.
  void note_pace(Clock::time_point begin, std::size_t calls) const {
    if (deadline_ == Deadline::max() || calls == 0) return;
    const auto now =
        std::chrono::nanoseconds(Clock::now() - begin).count() / static_cast<std::int64_t>(calls);
    const std::int64_t before = nanoseconds_a_call_;
    nanoseconds_a_call_ = before == 0 ? now : (3 * before + now) / 4;
  }

  BatchPtr read(BatchPtr batch) const {
    const auto begin = Clock::now();
    if (options_.slowness > Clock::duration())
      std::this_thread::sleep_for(options_.slowness * (batch->end - batch->begin));
    for (std::size_t i = batch->begin; i < batch->end; ++i) {
      if (!options_.reads_everything && !association_.is_relevant(capture_.function(i))) {
        batch->calls.emplace_back(nullptr);
        capture_.release(i);
        continue;
      }
      auto call = guarded([&] { return capture_.read(i); });
      if (call)
        batch->calls.emplace_back(std::make_shared<const Call>(std::move(*call)));
      else {
        batch->calls.emplace_back(tl::unexpected(std::move(call).error()));
        capture_.release(i);
      }
    }
    note_pace(begin, batch->end - batch->begin);
    return batch;
  }

  // A record that asks for more memory than there is fails alone, without the run.
  template <typename Work>
  static auto guarded(Work work) -> decltype(work()) {
    try {
      return work();
    } catch (const std::exception& error) {
      return fail("internal", "reading it failed: {}", error.what());
    }
  }

  BatchPtr pair(BatchPtr batch) {
    for (std::size_t i = batch->begin; i < batch->end; ++i) {
      auto& call = batch->calls[i - batch->begin];
      if (!call) {
        const WrapperId process = capture_.process(i);
        association_.add_unreadable(capture_.function(i), process.folder, process.process);
      } else if (*call) {
        association_.add(*call, batch->ready);
      }
    }
    for (CallInContext& context : batch->ready)
      context.is_before_traffic = batch->is_starting || is_in_startup(*context.call);
    return batch;
  }

  bool is_in_startup(const Call& call) const {
    const auto end = startup_.find({call.wrapper.folder, call.wrapper.process, 0});
    return end != startup_.end() && call.order < end->second;
  }

  BatchPtr bind(BatchPtr batch) const {
    const bool stores_only_structural =
        options_.policy.keep_values.empty() && !options_.policy.random_below;
    for (CallInContext& context : batch->ready) {
      std::shared_ptr<const Outcome> outcome;
      if (stores_only_structural && binder_.depends_on_shapes_only(context.call->function)) {
        const Hash128 key = shape_key(context);
        outcome = cache_.find(key);
        if (!outcome) cache_.add(key, outcome = bind(context));
      } else {
        outcome = bind(context);
      }
      batch->bound.push_back({std::move(context), std::move(outcome)});
    }
    return batch;
  }

  std::shared_ptr<const Outcome> bind(const CallInContext& context) const {
    auto outcome =
        guarded([&]() -> Result<std::shared_ptr<const Outcome>> { return try_bind(context); });
    if (outcome) return *outcome;
    return std::make_shared<const Outcome>(
        Outcome{{}, {}, Rejection{outcome.error().code, outcome.error().message}});
  }

  std::shared_ptr<const Outcome> try_bind(const CallInContext& context) const {
    auto outcome = std::make_shared<Outcome>();
    BindResult result = binder_.bind(context);
    outcome->rejection = std::move(result.rejection);

    // One call can match several definitions.
    for (Observation& observation : result.observations) {
      const Definition& definition = *observation.target->definition;
      if (!options_.selected.empty() && !options_.selected.contains(&definition)) {
        outcome->rejection = Rejection{"not_selected", definition.name};
        continue;
      }

      if (observation.unseen) {
        outcome->fitting.push_back({observation.target, observation.sequences,
                                    known_axes(observation, options_.policy),
                                    std::move(*observation.unseen)});
        continue;
      }

      auto workload = build_workload(observation, options_.policy);
      if (!workload) {
        outcome->rejection = Rejection{workload.error().code, workload.error().message};
        continue;
      }

      const Hash128 key = content_key(*workload);
      workload->inputs.clear();  // values are read again for the selected ones
      outcome->workloads.push_back(
          {observation.target,
           {std::move(observation.derived), observation.sequences, observation.is_suspicious},
           std::move(*workload),
           key});
    }
    return outcome;
  }

  void count(Batch& batch) {
    for (std::size_t i = batch.begin; i < batch.end; ++i) {
      const std::uint64_t calls = capture_.count(i);
      survey_.calls += calls;
      const std::string& function = capture_.function(i);
      FunctionCounts& counts = survey_.functions[function];
      counts.calls += calls;
      survey_.processes.insert(capture_.process(i));

      const auto& call = batch.calls[i - batch.begin];
      if (!call) {
        counts.rejected += calls;
        survey_.tally.add(call.error().code, function, call.error().message, i, calls);
      } else if (*call == nullptr || !association_.is_relevant(function)) {
        counts.skipped += calls;
      }

      if (call && *call && options_.reads_everything) describe(**call, counts);
      survey_.is_simulated = survey_.is_simulated || (call && *call && (*call)->is_simulated);
      if (call && *call && !(*call)->flashinfer_version.empty())
        survey_.flashinfer_versions.insert((*call)->flashinfer_version);
    }

    for (const BoundCall& bound : batch.bound) count(bound);
    batch = Batch{};
    options_.progress(survey_.calls);
  }

  static void describe(const Call& call, FunctionCounts& counts) {
    if (call.wrapper.self != 0) counts.wrappers.insert(call.wrapper);
    for (const auto& [name, value] : call.arguments) {
      if (const Tensor* tensor = value.tensor()) counts.shapes[name].add(*tensor);
      if (const auto* items = std::get_if<Sequence>(&value.data))
        for (std::size_t i = 0; i < items->items.size(); ++i)
          if (const Tensor* tensor = items->items[i].tensor())
            counts.shapes[fmt::format("{}.{}", name, i)].add(*tensor);
    }
  }

  // Counts of a call that matches, with or without values.
  DefinitionCounts& count_fitting(const Target& target, const std::vector<std::int64_t>& axes,
                                  std::optional<std::int64_t> sequences, const Call& call) {
    DefinitionCounts& counts = survey_.definitions[&target];
    counts.calls += call.count;
    if (is_padded(sequences, *target.definition, axes)) counts.padded += call.count;

    const Extents extents = var_extents(*target.definition, axes);
    if (counts.distribution.var_axes.empty()) counts.distribution = empty_distribution(target);
    counts.distribution.add(extents, call.count);
    counts.ranges.resize(extents.size(), {unknown_extent, unknown_extent});
    for (std::size_t i = 0; i < extents.size(); ++i) {
      if (extents[i] == unknown_extent) continue;
      auto& [min, max] = counts.ranges[i];
      min = min == unknown_extent ? extents[i] : std::min(min, extents[i]);
      max = std::max(max, extents[i]);
    }
    return counts;
  }

  // Whether the batch was padded with sequences that are not real.
  static bool is_padded(std::optional<std::int64_t> sequences, const Definition& definition,
                        const std::vector<std::int64_t>& axes) {
    if (!sequences) return false;
    for (std::size_t i = 0; i < definition.axes.size(); ++i)
      if (definition.axes[i].name == "batch_size") return axes[i] > *sequences;
    return false;
  }

  void count(const BoundCall& bound) {
    const Call& call = *bound.context.call;
    const Outcome& outcome = *bound.outcome;
    FunctionCounts& counts = survey_.functions[call.function];

    if (call.status == CallStatus::unfinished)
      survey_.tally.add("call_unfinished", call.function,
                        "the call never returned: it raised, the process died in it, or it still "
                        "runs; what it was given counts all the same",
                        call.order, call.count);

    // Each replay of a CUDA graph calls what was captured in it.
    if (call.status == CallStatus::captured) {
      survey_.graph_flushes += call.flushes;
      if (bound.context.plan) survey_.distinct.add_captured_plan(bound.context.plan->order);
    }

    (outcome.is_sampled()        ? counts.sampled
     : outcome.workloads.empty() ? counts.rejected
                                 : counts.bound) += call.count;

    for (const BoundWorkload& workload : outcome.workloads) {
      const std::vector<std::int64_t>& axes = workload.workload.axes;
      DefinitionCounts& definition =
          count_fitting(*workload.target, axes, workload.notes.sequences, call);
      for (const std::string& name : workload.notes.derived) definition.derived[name] += call.count;
      if (definition.cells.insert(octaves_of(var_extents(*workload.target->definition, axes)))
              .second)
        definition.calls_at_last_cell = definition.calls;

      const bool is_first =
          survey_.distinct.add(workload.target, workload.workload, workload.key, workload.notes,
                               origin_of(bound.context), call.count);
      if (is_first && options_.on_distinct)
        options_.on_distinct(bound.context, *workload.target, workload.key);
    }

    for (const FittingCall& fitting : outcome.fitting)
      count_fitting(*fitting.target, fitting.axes, fitting.sequences, call)
          .unseen[fitting.unseen.reason] += call.count;
    tally_rejection(call, outcome);
  }

  void tally_rejection(const Call& call, const Outcome& outcome) {
    if (!outcome.workloads.empty() || outcome.is_sampled()) return;
    const Rejection* why = !outcome.fitting.empty() ? &outcome.fitting[0].unseen
                           : outcome.rejection      ? &*outcome.rejection
                                                    : nullptr;
    if (why != nullptr)
      survey_.tally.add(why->reason, call.function, why->detail, call.order, call.count);
  }

  const Capture& capture_;
  const Binder& binder_;
  const SurveyOptions& options_;
  Association association_;
  mutable OutcomeCache cache_;
  Survey survey_;
  std::size_t next_ = 0;
  std::map<WrapperId, std::size_t> startup_;
  bool is_starting_ = false;
  Deadline deadline_ = Deadline::max();
  mutable std::atomic<std::int64_t> nanoseconds_a_call_ = 0;  ///< 0: not known yet
};

void ShapeRange::add(const Tensor& tensor) {
  if (dtypes.empty()) min = max = tensor.shape;
  dtypes.insert(tensor.dtype);
  has_many_ranks |= tensor.shape.size() != min.size();
  for (std::size_t i = 0; i < std::min(min.size(), tensor.shape.size()); ++i) {
    min[i] = std::min(min[i], tensor.shape[i]);
    max[i] = std::max(max[i], tensor.shape[i]);
  }
}

Surveyor::Surveyor(const Capture& capture, const BindingSet& bindings, const Binder& binder,
                   const SurveyOptions& options)
    : run_(std::make_unique<Run>(capture, bindings, binder, options)) {}
Surveyor::~Surveyor() = default;

bool Surveyor::advance(Deadline deadline) {
  return run_->advance(deadline);
}

void Surveyor::set_starting(bool is_starting) {
  run_->set_starting(is_starting);
}

void Surveyor::restore(Survey survey) {
  run_->restore(std::move(survey));
}

const Survey& Surveyor::current() const {
  return run_->current();
}

Survey Surveyor::finish() {
  return run_->finish();
}

Survey survey(const Capture& capture, const BindingSet& bindings, const Binder& binder,
              const SurveyOptions& options) {
  Surveyor surveyor(capture, bindings, binder, options);
  surveyor.advance();
  return surveyor.finish();
}

Result<Workload> read_again(const Capture& capture, const Binder& binder, const Target& target,
                            const DistinctWorkload& entry, const StoragePolicy& policy) {
  CallInContext context;

  const auto read = [&capture](std::uint32_t position,
                               std::shared_ptr<const Call>& call) -> Result<void> {
    if (position == Origin::none) return {};
    CW_TRY(Call again, capture.read(position));
    call = std::make_shared<const Call>(std::move(again));
    return {};
  };

  CW_CHECK(read(entry.origin.call, context.call));
  CW_CHECK(read(entry.origin.plan, context.plan));
  CW_CHECK(read(entry.origin.init, context.init));

  for (const Observation& observation : binder.bind(context).observations) {
    if (observation.target != &target || observation.unseen) continue;
    CW_TRY(Workload workload, build_workload(observation, policy));
    if (content_key(workload) == entry.key) return workload;
  }
  return fail(
      "capture_changed",
      "{}: the call changed while it was being read; are the dumps still being written or deleted?",
      capture.location(entry.origin.call));
}

}  // namespace cw
