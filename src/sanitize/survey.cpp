#include "sanitize/survey.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <tbb/parallel_pipeline.h>

#include "bind/told.h"
#include "sanitize/outcome.h"
#include "sanitize/retained_workloads.h"
#include "sanitize/startup.h"

namespace cw {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t batch_size = 64;        ///< of calls that have to be read
constexpr std::size_t sighting_batch = 1024;  ///< of those whose sightings tell enough
constexpr std::size_t max_batches = 16;
constexpr std::size_t max_read_bytes = 4 << 20;  ///< of a batch of sightings, about
// With a deadline, batches are kept small: those under way are finished after it.
constexpr std::chrono::milliseconds batch_time{4};

// Calls of one context that are counted together.
struct CountedCall {
  std::shared_ptr<CountedOutcome> outcome;
  std::uint64_t count = 0;
  /// What CountedOutcome::told stands for in this call, from here on in Batch::numbers.
  std::size_t numbers = 0;
  /// In Batch::earlier, if it was made before the first call of the outcome that was counted.
  std::optional<std::size_t> earlier = {};
};

// Calls of one function in a batch. Names have stable addresses.
struct FunctionCalls {
  const std::string* name;
  std::uint64_t calls = 0, skipped = 0;
};

struct UnreadableCall {
  const std::string* function;
  Error error;
  std::size_t order;
  CallPlace place;
  std::uint64_t count;
};

struct Batch {
  std::size_t begin = 0, end = 0;
  bool is_starting = false;
  std::vector<Result<std::shared_ptr<const Call>>> calls;  ///< null: not read, as nothing binds it
  std::vector<CallInContext> ready;

  // What is counted of it.
  std::vector<FunctionCalls> functions;
  std::vector<WrapperId> processes;
  std::vector<UnreadableCall> unreadable;
  std::vector<std::shared_ptr<const Call>> described;  ///< contents or wrappers that are new
  std::vector<std::shared_ptr<CountedOutcome>> unbound;
  std::vector<CountedCall> counted;
  std::vector<std::int64_t> numbers;
  std::vector<std::pair<std::size_t, CallPlace>> earlier;  ///< order and place
};

using BatchPtr = std::shared_ptr<Batch>;

// Outcomes by shape key, of calls without an identity whose outcome depends on nothing else.
class ShapeOutcomes {
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

// A shape is what a call shows without values: pool sizes are left out, as they follow from values.
Distribution empty_distribution(const Target& target) {
  std::vector<std::string> names;
  std::vector<std::size_t> shape;
  for (const Axis& axis : target.definition->axes) {
    if (axis.constant) continue;
    const auto is_its_pool = [&axis](const Provider& provider) {
      return std::ranges::find(provider.binding->pools, axis.name, &PoolAxis::axis) !=
             provider.binding->pools.end();
    };
    if (std::ranges::none_of(target.providers, is_its_pool)) shape.push_back(names.size());
    names.push_back(axis.name);
  }
  return {std::move(names), std::move(shape)};
}

}  // namespace

class Surveyor::Run {
 public:
  Run(Capture& capture, const BindingSet& bindings, const Binder& binder,
      const SurveyOptions& options)
      : capture_(capture), binder_(binder), options_(options), association_(bindings) {
    if (!options.is_whole) return;
    const std::unique_ptr<Capture> again = capture.from_start();
    startup_ = ends_of_startup(again ? *again : capture, bindings);
  }

  void set_starting(bool is_starting) { is_starting_ = is_starting; }

  bool advance(Deadline deadline) {
    deadline_ = deadline;
    has_taken_all_ = has_begun_ = false;
    using Mode = tbb::filter_mode;
    const auto passes = [](auto mode, auto work) {
      return tbb::make_filter<BatchPtr, BatchPtr>(mode, std::move(work));
    };
    const auto first = tbb::make_filter<void, BatchPtr>(
        Mode::serial_in_order, [this](tbb::flow_control& flow) { return take(flow); });
    const auto last = tbb::make_filter<BatchPtr, void>(
        Mode::serial_in_order, [this](const BatchPtr& batch) { count(*batch); });
    const auto binding =
        passes(Mode::parallel, [this](BatchPtr batch) { return bind(std::move(batch)); });

    if (capture_.knows_identities())
      tbb::parallel_pipeline(max_batches, first & binding & last);
    else
      tbb::parallel_pipeline(
          max_batches,
          first &
              passes(Mode::parallel, [this](BatchPtr batch) { return read(std::move(batch)); }) &
              passes(Mode::serial_in_order,
                     [this](BatchPtr batch) { return pair(std::move(batch)); }) &
              binding & last);
    settle();
    return has_taken_all_;
  }

  void restore(Survey survey) {
    survey_ = std::move(survey);
    definitions_.clear();
    counts_of_.clear();
  }
  const Survey& current() const { return survey_; }

  Survey finish() {
    // Calls that waited to the end for a neighbour.
    const auto rest = std::make_shared<Batch>();
    rest->begin = rest->end = capture_.size();
    association_.finish(rest->ready);
    add_outcomes(*rest);
    count(*bind(rest));
    settle();
    for (const CaptureDefect& defect : capture_.defects())
      survey_.tally.add_defect(defect.code, defect.message, defect.count);
    return std::move(survey_);
  }

 private:
  // What is known of a function, by its number in the capture.
  struct Function {
    const std::string* name = nullptr;
    const Association::Role* role = nullptr;
    bool is_on_its_own = false;
    Hash128 last_identity;                  ///< that was described
    std::size_t batch = 0, at = 0;          ///< where its calls are counted: Batch::functions
    std::unordered_set<Hash128> described;  ///< identities and wrappers, for inspect
  };

  // Counts of a definition whose distribution is not up to date.
  struct Definition {
    DefinitionCounts* counts = nullptr;  ///< of survey_
    std::vector<std::int64_t> extents;   ///< of its var axes, for each of `calls`
    std::vector<std::uint64_t> calls;
  };
  static constexpr std::size_t max_waiting = 4096;

  // Which told numbers binding calls of one content depends on.
  struct KnownNumbers {
    std::vector<ToldNumber> numbers;  ///< extents, sorted
    bool are_all = false;             ///< how much of some tensor is in use, too: then everything

    void add(const std::vector<ToldNumber>& met) {
      const std::size_t before = numbers.size();
      for (const ToldNumber& number : met) {
        are_all = are_all || number.kind == ToldNumber::Kind::used;
        const auto place = std::ranges::lower_bound(numbers, number);
        if (place == numbers.end() || *place != number) numbers.insert(place, number);
      }
      are_all = are_all || numbers.size() == before;
    }
  };
  static constexpr std::size_t max_known_numbers = 4'096;

  // ---- Taking calls, in order

  BatchPtr take(tbb::flow_control& flow) {
    // However late it is, something is taken.
    const auto is_late = [this] { return has_begun_ && Clock::now() >= deadline_; };
    if (is_late()) return stop(flow);
    while (next_ == capture_.size()) {
      capture_.forget(next_);
      has_taken_all_ = !capture_.fetch();
      has_begun_ = true;
      if (has_taken_all_ || (next_ == capture_.size() && is_late())) return stop(flow);
    }
    has_begun_ = true;
    auto batch = std::make_shared<Batch>();
    batch->begin = next_;
    batch->is_starting = is_starting_;
    next_ = batch->end = std::min(next_ + next_batch_size(), capture_.size());
    if (capture_.knows_identities()) sight(*batch);
    return batch;
  }

  static BatchPtr stop(tbb::flow_control& flow) {
    flow.stop();
    return nullptr;
  }

  std::size_t next_batch_size() const {
    const std::size_t most = capture_.knows_identities() ? sighting_batch : batch_size;
    if (deadline_ == Deadline::max()) return most;
    const auto call = std::max<std::int64_t>(nanoseconds_a_call_, 1);
    return static_cast<std::size_t>(std::clamp<std::int64_t>(
        std::chrono::nanoseconds(batch_time).count() / call, 1, static_cast<std::int64_t>(most)));
  }

  // The pace of reading and binding, which run in parallel; the latest batch counts for a quarter.
  void note_pace(Clock::time_point begin, std::size_t calls) const {
    if (deadline_ == Deadline::max() || calls == 0) return;
    const auto now =
        std::chrono::nanoseconds(Clock::now() - begin).count() / static_cast<std::int64_t>(calls);
    const std::int64_t before = nanoseconds_a_call_;
    nanoseconds_a_call_ = before == 0 ? now : (3 * before + now) / 4;
  }

  void delay(const Batch& batch) const {
    if (options_.slowness > Clock::duration())
      std::this_thread::sleep_for(options_.slowness * (batch.end - batch.begin));
  }

  Function& function_of(std::uint32_t number) {
    if (number >= functions_.size()) functions_.resize(number + 1);
    Function& function = functions_[number];
    if (function.name != nullptr) return function;
    function.name = &capture_.function_name(number);
    function.role = association_.role_of(*function.name);
    function.is_on_its_own = function.role != nullptr && function.role->is_on_its_own();
    return function;
  }

  // Notes that calls were made, whatever becomes of them.
  void add_calls(Batch& batch, Function& function, const Sighting& seen) {
    if (function.batch != batch.begin + 1) {
      function.batch = batch.begin + 1;
      function.at = batch.functions.size();
      batch.functions.push_back({function.name});
    }
    FunctionCalls& calls = batch.functions[function.at];
    calls.calls += seen.count;
    if (function.role == nullptr) calls.skipped += seen.count;

    const WrapperId process{seen.wrapper.folder, seen.wrapper.process, 0};
    if (batch.processes.empty() || batch.processes.back() != process)
      batch.processes.push_back(process);
  }

  // For what a survey says of functions and versions: each content once, and each wrapper.
  void describe(Batch& batch, Function& function, const std::shared_ptr<const Call>& call) {
    if (!options_.reads_everything) {
      const Hash128 last = std::exchange(function.last_identity, call->identity);
      if (last == Hash128{} || last != call->identity) batch.described.push_back(call);
      return;
    }
    constexpr std::size_t max_described = 100'000;
    if (function.described.size() > max_described) function.described.clear();
    const Hash128 wrapper{call->wrapper.folder, call->wrapper.self};
    const bool is_new_wrapper = function.described.insert(wrapper).second;
    const bool is_new_content =
        call->identity == Hash128{} || function.described.insert(shapes_key(*call)).second;
    if (is_new_wrapper || is_new_content) batch.described.push_back(call);
  }

  // Of a call's content, with the shapes that only the call tells.
  static Hash128 shapes_key(const Call& call) {
    Hash128 key = call.identity;
    for (const ToldCount& told : call.told)
      if (told.extent != unknown_extent)
        key = xxh3(fmt::format("{}\n{}\n{}\n{}", key.high, key.low, told.tensor, told.extent));
    return key;
  }

  bool is_before_traffic(const Batch& batch, const WrapperId& wrapper,
                         const CallPlace& place) const {
    if (batch.is_starting || startup_.empty()) return batch.is_starting;
    const auto end = startup_.find({wrapper.folder, wrapper.process, 0});
    return end != startup_.end() && place.is_before(end->second);
  }

  // Calls whose sightings tell what they are: few have to be read, and fewer to be bound.
  void sight(Batch& batch) {
    const auto begin = Clock::now();
    delay(batch);
    std::size_t read_bytes = 0;
    for (std::size_t i = batch.begin; i < batch.end; ++i) {
      const Sighting seen = capture_.sighting(i);
      Function& function = function_of(seen.function);
      add_calls(batch, function, seen);
      if (function.role == nullptr && !options_.reads_everything) continue;

      // A call that depends on no other, and was made with the same before.
      if (function.is_on_its_own && !options_.reads_everything) {
        const bool is_before = !startup_.empty()
                                   ? is_before_traffic(batch, seen.wrapper, capture_.place(i))
                                   : batch.is_starting;
        if (auto known = known_.find(context_key(seen.identity, is_before))) {
          batch.counted.push_back({std::move(known), seen.count});
          continue;
        }
      }

      auto call = guarded([&] { return capture_.read(i); });
      if (!call) {
        add_unreadable(batch, function, seen, i, std::move(call.error()));
        continue;
      }
      const auto made = std::make_shared<const Call>(std::move(*call));
      read_bytes += made->content->memory;
      if (read_bytes > max_read_bytes) next_ = batch.end = i + 1;
      describe(batch, function, made);
      if (function.role == nullptr) continue;
      if (function.is_on_its_own) {
        add_outcome(batch,
                    {.call = made,
                     .is_before_traffic = is_before_traffic(batch, made->wrapper, made->place)});
        continue;
      }
      association_.add(*function.role, made, batch.ready);
      add_outcomes(batch);
    }
    note_pace(begin, batch.end - batch.begin);
  }

  void add_unreadable(Batch& batch, const Function& function, const Sighting& seen,
                      std::size_t order, Error error) {
    association_.add_unreadable(*function.name, seen.wrapper.folder, seen.wrapper.process);
    if (function.role == nullptr) batch.functions[function.at].skipped -= seen.count;
    batch.unreadable.push_back(
        {function.name, std::move(error), order, capture_.place(order), seen.count});
  }

  void add_outcomes(Batch& batch) {
    for (CallInContext& context : batch.ready) {
      context.is_before_traffic =
          is_before_traffic(batch, context.call->wrapper, context.call->place);
      add_outcome(batch, std::move(context));
    }
    batch.ready.clear();
  }

  // Calls without an identity have an outcome of their own.
  void add_outcome(Batch& batch, CallInContext context) {
    const std::uint64_t count = context.call->count;
    if (context.call->identity == Hash128{}) {
      batch.unbound.push_back(std::make_shared<CountedOutcome>(std::move(context)));
      batch.counted.push_back({batch.unbound.back(), count});
      return;
    }

    const auto outcome = tells_counts(context) ? told_outcome(batch, context)
                                               : known_outcome(batch, context, key_of(context));
    batch.counted.push_back({outcome, count, batch.numbers.size()});
    for (const std::int64_t extent : outcome->told)
      batch.numbers.push_back(number_of(told_number(extent), context));
    // It has waited for a neighbour.
    if (context.call->order < outcome->order) {
      batch.counted.back().earlier = batch.earlier.size();
      batch.earlier.emplace_back(context.call->order, context.call->place);
    }
  }

  static bool tells_counts(const CallInContext& context) {
    for (const Call* call : {context.call.get(), context.plan.get(), context.init.get()})
      if (call != nullptr && call->lacks_values && !call->told.empty()) return true;
    return false;
  }

  static Hash128 key_of(const CallInContext& context) {
    const bool is_plain =
        !context.plan && !context.init && !context.has_plan_in_doubt && !context.has_neighbour;
    return is_plain ? context_key(context.call->identity, context.is_before_traffic)
                    : context_key(context);
  }

  std::shared_ptr<CountedOutcome> known_outcome(Batch& batch, const CallInContext& context,
                                                const Hash128& key) {
    auto outcome = known_.find(key);
    if (outcome) return outcome;
    outcome = std::make_shared<CountedOutcome>(context);
    known_.add(key, outcome);
    batch.unbound.push_back(outcome);
    return outcome;
  }

  // Calls that differ in what is told alone are bound together, if that can be: as long as binding
  // depends on a told number, it is tried again with that one as it is. What this needed is kept
  // for the calls of the same content that follow.
  std::shared_ptr<CountedOutcome> told_outcome(Batch& batch, CallInContext& context) {
    if (known_numbers_.size() >= max_known_numbers) known_numbers_.clear();
    KnownNumbers& known = known_numbers_[context_key(context)];
    while (!known.are_all) {
      const Hash128 key = context_key(context, known.numbers);
      if (auto outcome = known_.find(key)) return outcome;
      context.symbols = std::make_shared<ToldSymbols>(ToldSymbols{known.numbers, {}});
      const auto outcome = std::make_shared<CountedOutcome>(context);
      bind_told(*outcome);
      if (context.symbols->met.empty()) {
        known_.add(key, outcome);
        return outcome;
      }
      known.add(context.symbols->met);
    }
    context.symbols = nullptr;
    return known_outcome(batch, context, whole_context_key(context));
  }

  // In order, as what follows depends on it; there are few.
  void bind_told(CountedOutcome& outcome) const {
    outcome.outcome = outcome_of(outcome.context, binder_, options_.selected, options_.policy);
    for (const FittingCall& fitting : outcome.outcome->fitting)
      for (const std::int64_t extent : fitting.axes)
        if (is_told(extent, outcome.context) &&
            std::ranges::find(outcome.told, extent) == outcome.told.end())
          outcome.told.push_back(extent);
  }

  // ---- Calls that have to be read

  BatchPtr read(BatchPtr batch) const {
    const auto begin = Clock::now();
    delay(*batch);
    for (std::size_t i = batch->begin; i < batch->end; ++i) {
      const bool is_read =
          options_.reads_everything || association_.role_of(capture_.function(i)) != nullptr;
      if (!is_read) {
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
      const Sighting seen = capture_.sighting(i);
      Function& function = function_of(seen.function);
      add_calls(*batch, function, seen);
      auto& call = batch->calls[i - batch->begin];
      if (!call) {
        add_unreadable(*batch, function, seen, i, std::move(call.error()));
      } else if (*call) {
        describe(*batch, function, *call);
        if (function.role != nullptr) association_.add(*function.role, *call, batch->ready);
      }
    }
    batch->calls.clear();
    add_outcomes(*batch);
    return batch;
  }

  // ---- Binding

  BatchPtr bind(BatchPtr batch) const {
    const bool stores_only_structural =
        options_.policy.keep_values.empty() && !options_.policy.random_below;
    for (const auto& unbound : batch->unbound) {
      const CallInContext& context = unbound->context;
      const bool is_shared = stores_only_structural && context.call->identity == Hash128{} &&
                             binder_.depends_on_shapes_only(context.call->content->function);
      const Hash128 key = is_shared ? shape_key(context) : Hash128{};
      if (is_shared) unbound->outcome = shapes_.find(key);
      if (unbound->outcome) continue;
      unbound->outcome = outcome_of(context, binder_, options_.selected, options_.policy);
      if (is_shared) shapes_.add(key, unbound->outcome);
    }
    batch->unbound.clear();
    return batch;
  }

  // ---- Counting, in order

  void count(Batch& batch) {
    for (const FunctionCalls& calls : batch.functions) {
      survey_.calls += calls.calls;
      FunctionCounts& counts = counts_of(calls.name);
      counts.calls += calls.calls;
      counts.skipped += calls.skipped;
    }
    survey_.processes.insert(batch.processes.begin(), batch.processes.end());
    for (const UnreadableCall& call : batch.unreadable) {
      counts_of(call.function).rejected += call.count;
      survey_.tally.add(call.error.code, *call.function, call.error.message, call.order, call.count,
                        capture_.location(call.place));
    }
    for (const auto& call : batch.described) describe(*call);

    for (const CountedCall& call : batch.counted) {
      if (call.outcome->function == nullptr)
        count_first(*call.outcome, call.count, batch.numbers.data() + call.numbers);
      else
        count_more(call.outcome, call.count, batch.numbers.data() + call.numbers);
      // The example of what was wrong is the first in the capture's order.
      if (call.earlier) {
        const auto& [order, place] = batch.earlier[*call.earlier];
        add_to_tally(*call.outcome, 0, order, place);
      }
    }
    batch = Batch{};
    options_.progress(survey_.calls);
  }

  FunctionCounts& counts_of(const std::string* function) {
    FunctionCounts*& counts = counts_of_[function];
    if (counts == nullptr) counts = &survey_.functions[*function];
    return *counts;
  }

  void describe(const Call& call) {
    const CallContent& content = *call.content;
    survey_.is_simulated = survey_.is_simulated || content.is_simulated;
    if (!content.flashinfer_version.empty())
      survey_.flashinfer_versions.insert(content.flashinfer_version);
    if (!options_.reads_everything) return;

    FunctionCounts& counts = survey_.functions[content.function];
    if (call.wrapper.self != 0) counts.wrappers.insert(call.wrapper);
    for (const auto& [name, value] : content.arguments) {
      if (const Tensor* tensor = value.tensor())
        counts.shapes[name].add(tensor->dtype, call.shape_of(*tensor));
      if (const auto* items = std::get_if<Sequence>(&value.data))
        for (std::size_t i = 0; i < items->items.size(); ++i)
          if (const Tensor* tensor = items->items[i].tensor())
            counts.shapes[fmt::format("{}.{}", name, i)].add(tensor->dtype, call.shape_of(*tensor));
    }
  }

  // Axes with the numbers that told extents stand for.
  static std::vector<std::int64_t> with_numbers(std::vector<std::int64_t> axes,
                                                const CountedOutcome& outcome,
                                                const std::int64_t* numbers) {
    for (std::int64_t& extent : axes)
      if (const auto told = std::ranges::find(outcome.told, extent); told != outcome.told.end())
        extent = numbers[told - outcome.told.begin()];
    return axes;
  }

  // Everything that the first call of an outcome changes.
  void count_first(CountedOutcome& counted, std::uint64_t calls, const std::int64_t* numbers) {
    const Outcome& outcome = *counted.outcome;
    const Call& call = *counted.context.call;
    counted.function = &survey_.functions[call.content->function];
    add_to_function(counted, calls);
    add_to_fits(counted, calls);
    add_to_tally(counted, calls);

    // Each replay of a CUDA graph calls what was captured in it.
    if (call.status == CallStatus::captured) {
      survey_.graph_flushes += call.flushes;
      if (counted.context.plan) survey_.distinct.add_captured_plan(counted.context.plan->order);
    }

    for (const BoundWorkload& workload : outcome.workloads) {
      const std::vector<std::int64_t>& axes = workload.workload.axes;
      DefinitionCounts& counts = add_calls(*workload.target, axes, workload.notes.sequences, calls);
      add_distribution(*workload.target, axes, calls);
      for (const std::string& name : workload.notes.derived) counts.derived[name] += calls;
      if (counts.cells.insert(octaves_of(var_extents(*workload.target->definition, axes))).second)
        counts.calls_at_last_cell = counts.calls;

      const bool is_first = survey_.distinct.add(workload.target, workload.workload, workload.key,
                                                 workload.notes, origin_of(counted.context), calls);
      if (is_first && options_.on_distinct) {
        counted.context.symbols = nullptr;
        options_.on_distinct(counted.context, *workload.target, workload.key);
      }
    }

    for (const FittingCall& fitting : outcome.fitting) {
      const auto axes = with_numbers(fitting.axes, counted, numbers);
      add_calls(*fitting.target, axes, fitting.sequences, calls).unseen[fitting.unseen.reason] +=
          calls;
      add_distribution(*fitting.target, axes, calls);
    }
    counted.context.call = counted.context.plan = counted.context.init = nullptr;
  }

  // What must be right at any time is counted now, the rest by settle().
  void count_more(const std::shared_ptr<CountedOutcome>& counted, std::uint64_t calls,
                  const std::int64_t* numbers) {
    const Outcome& outcome = *counted->outcome;
    add_to_function(*counted, calls);
    for (const BoundWorkload& workload : outcome.workloads)
      add_calls(*workload.target, workload.workload.axes, workload.notes.sequences, calls);
    for (const FittingCall& fitting : outcome.fitting) {
      if (counted->told.empty()) {
        add_calls(*fitting.target, fitting.axes, fitting.sequences, calls);
        continue;
      }
      const auto axes = with_numbers(fitting.axes, *counted, numbers);
      add_calls(*fitting.target, axes, fitting.sequences, calls);
      add_distribution(*fitting.target, axes, calls);
    }
    if (std::exchange(counted->waiting, counted->waiting + calls) == 0) waiting_.push_back(counted);
    if (waiting_.size() >= max_waiting) settle();
  }

  static void add_to_function(const CountedOutcome& counted, std::uint64_t calls) {
    const Outcome& outcome = *counted.outcome;
    (outcome.is_sampled()        ? counted.function->sampled
     : outcome.workloads.empty() ? counted.function->rejected
                                 : counted.function->bound) += calls;
  }

  void add_to_fits(const CountedOutcome& counted, std::uint64_t calls) {
    if (!options_.reads_everything) return;
    for (const BoundWorkload& workload : counted.outcome->workloads) {
      FunctionCounts::Fit& fit = counted.function->fits[workload.target];
      fit.calls += calls;
      for (const std::string& name : workload.notes.derived) fit.derived[name] += calls;
    }
    for (const FittingCall& fitting : counted.outcome->fitting)
      counted.function->fits[fitting.target].calls += calls;
  }

  void add_to_tally(const CountedOutcome& counted, std::uint64_t calls) {
    add_to_tally(counted, calls, counted.order, counted.place);
  }
  void add_to_tally(const CountedOutcome& counted, std::uint64_t calls, std::size_t order,
                    const CallPlace& place) {
    const Rejection* why = counted.outcome->why_none();
    if (why == nullptr && !counted.is_unfinished) return;
    const std::string location = capture_.location(place);
    if (counted.is_unfinished)
      survey_.tally.add("call_unfinished", counted.name,
                        "the call never returned: it raised, the process died in it, or it still "
                        "runs; what it was given counts all the same",
                        order, calls, location);
    if (why != nullptr)
      survey_.tally.add(why->reason, counted.name, why->detail, order, calls, location);
  }

  // Counts of a call that matches, with or without values.
  DefinitionCounts& add_calls(const Target& target, const std::vector<std::int64_t>& axes,
                              std::optional<std::int64_t> sequences, std::uint64_t calls) {
    Definition& definition = definitions_[&target];
    if (definition.counts == nullptr) definition.counts = &survey_.definitions[&target];
    DefinitionCounts& counts = *definition.counts;
    counts.calls += calls;
    if (is_padded(sequences, *target.definition, axes)) counts.padded += calls;

    // Per var axis, in the definition's order.
    const std::vector<Axis>& specs = target.definition->axes;
    std::size_t var = 0;
    for (std::size_t i = 0; i < axes.size(); ++i) {
      if (specs[i].constant) continue;
      if (counts.ranges.size() == var) counts.ranges.emplace_back(unknown_extent, unknown_extent);
      auto& [min, max] = counts.ranges[var++];
      if (axes[i] == unknown_extent) continue;
      min = min == unknown_extent ? axes[i] : std::min(min, axes[i]);
      max = std::max(max, axes[i]);
    }
    return counts;
  }

  void add_distribution(const Target& target, const std::vector<std::int64_t>& axes,
                        std::uint64_t calls) {
    Definition& definition = definitions_[&target];
    const std::vector<Axis>& specs = target.definition->axes;
    for (std::size_t i = 0; i < axes.size(); ++i)
      if (!specs[i].constant) definition.extents.push_back(axes[i]);
    definition.calls.push_back(calls);
    if (definition.calls.size() >= max_waiting) settle(target, definition);
  }

  void settle(const Target& target, Definition& definition) {
    if (definition.calls.empty()) return;
    Distribution& distribution = definition.counts->distribution;
    if (distribution.of_shapes.cells().empty()) distribution = empty_distribution(target);
    distribution.add_all(definition.extents, definition.calls);
    definition.extents.clear();
    definition.calls.clear();
  }

  // Brings everything up to date.
  void settle() {
    for (const auto& counted : waiting_) {
      const std::uint64_t calls = std::exchange(counted->waiting, 0);
      add_to_fits(*counted, calls);
      add_to_tally(*counted, calls);
      for (const BoundWorkload& workload : counted->outcome->workloads) {
        add_distribution(*workload.target, workload.workload.axes, calls);
        DefinitionCounts& counts = *definitions_[workload.target].counts;
        for (const std::string& name : workload.notes.derived) counts.derived[name] += calls;
        survey_.distinct.add_calls(workload.target, workload.key, calls);
      }
      for (const FittingCall& fitting : counted->outcome->fitting) {
        definitions_[fitting.target].counts->unseen[fitting.unseen.reason] += calls;
        if (counted->told.empty()) add_distribution(*fitting.target, fitting.axes, calls);
      }
    }
    waiting_.clear();
    for (auto& [target, definition] : definitions_) settle(*target, definition);
  }

  // Whether the batch was padded with sequences that are not real.
  static bool is_padded(std::optional<std::int64_t> sequences, const cw::Definition& definition,
                        const std::vector<std::int64_t>& axes) {
    if (!sequences) return false;
    for (std::size_t i = 0; i < definition.axes.size(); ++i)
      if (definition.axes[i].name == "batch_size") return axes[i] > *sequences;
    return false;
  }

  Capture& capture_;
  const Binder& binder_;
  const SurveyOptions& options_;
  Deadline deadline_ = Deadline::max();
  std::map<WrapperId, CallPlace> startup_;

  // Of taking and pairing calls.
  std::size_t next_ = 0;
  bool has_begun_ = false, has_taken_all_ = false, is_starting_ = false;
  Association association_;
  std::vector<Function> functions_;
  OutcomeTable known_;
  std::unordered_map<Hash128, KnownNumbers> known_numbers_;   ///< by context_key()
  mutable std::atomic<std::int64_t> nanoseconds_a_call_ = 0;  ///< 0: not known yet

  mutable ShapeOutcomes shapes_;  ///< of binding

  // Of counting.
  Survey survey_;
  std::unordered_map<const std::string*, FunctionCounts*> counts_of_;
  std::map<const Target*, Definition> definitions_;
  std::vector<std::shared_ptr<CountedOutcome>> waiting_;
};

void ShapeRange::add(DType dtype, const Shape& shape) {
  if (dtypes.empty()) min = max = shape;
  dtypes.insert(dtype);
  has_many_ranks |= shape.size() != min.size();
  for (std::size_t i = 0; i < std::min(min.size(), shape.size()); ++i) {
    min[i] = std::min(min[i], shape[i]);
    max[i] = std::max(max[i], shape[i]);
  }
}

Surveyor::Surveyor(Capture& capture, const BindingSet& bindings, const Binder& binder,
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

Survey survey(Capture& capture, const BindingSet& bindings, const Binder& binder,
              const SurveyOptions& options) {
  Surveyor surveyor(capture, bindings, binder, options);
  surveyor.advance();
  return surveyor.finish();
}

Result<Workload> read_again(const Capture& capture, const Binder& binder, const Target& target,
                            const DistinctWorkload& entry, const StoragePolicy& policy) {
  CallInContext context;

  const auto read = [&capture](const std::optional<CallPlace>& place,
                               std::shared_ptr<const Call>& call) -> Result<void> {
    if (!place) return {};
    CW_TRY(Call again, capture.read_again(*place));
    call = std::make_shared<const Call>(std::move(again));
    return {};
  };

  CW_CHECK(read(entry.origin.call_place, context.call));
  CW_CHECK(read(entry.origin.plan_place, context.plan));
  CW_CHECK(read(entry.origin.init_place, context.init));

  for (const Observation& observation : binder.bind(context).observations) {
    if (observation.target != &target || observation.unseen) continue;
    CW_TRY(Workload workload, build_workload(observation, policy));
    if (content_key(workload) == entry.key) return workload;
  }
  return fail(
      "capture_changed",
      "{}: the call changed while it was being read; are the dumps still being written or deleted?",
      capture.location(entry.origin.call_place));
}

}  // namespace cw
