// What binding a call gives, as far as a survey counts it: the same for every call that was made
// with the same in the same context, so it is computed once and counted often.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "bind/binder.h"
#include "bind/told.h"
#include "capture/capture.h"
#include "sanitize/distinct_workloads.h"
#include "sanitize/storage_policy.h"

namespace cw {

struct FunctionCounts;

/// A workload that a call gives; its values are read again if it is selected.
struct BoundWorkload {
  const Target* target;
  WorkloadNotes notes;
  Workload workload;
  Hash128 key;
};

/// A call that matches, without the values that make a workload.
struct FittingCall {
  const Target* target;
  std::optional<std::int64_t> sequences;
  std::vector<std::int64_t> axes;  ///< may be told (bind/told.h)
  Rejection unseen;
};

struct Outcome {
  std::vector<BoundWorkload> workloads;
  std::vector<FittingCall> fitting;
  std::optional<Rejection> rejection;

  /// Whether the recorder's sample kept other index tensors instead of this call's.
  bool is_sampled() const {
    return workloads.empty() && !fitting.empty() &&
           fitting[0].unseen.reason == "values_sampled_out";
  }
  /// Why there is no workload; null if there is one, or if that is no defect.
  const Rejection* why_none() const {
    if (!workloads.empty() || is_sampled()) return nullptr;
    return !fitting.empty() ? &fitting[0].unseen : rejection ? &*rejection : nullptr;
  }
};

/// Binds a call. `selected` restricts the definitions; empty: all. With CallInContext::symbols, it
/// is the call's outcome only if nothing was met.
std::shared_ptr<const Outcome> outcome_of(const CallInContext& context, const Binder& binder,
                                          const std::set<const Definition*>& selected,
                                          const StoragePolicy& policy);

/// Identifies everything that the outcome of a call with an identity depends on, but for what is
/// told (bind/told.h): of that, the `known` numbers.
Hash128 context_key(const CallInContext& context, std::span<const ToldNumber> known = {});
/// The same with everything that is told.
Hash128 whole_context_key(const CallInContext& context);
/// The same for a call on its own, without the call.
Hash128 context_key(const Hash128& identity, bool is_before_traffic);

/// Calls that had the same outcome. One thread adds them, another one binds the first of them, and
/// then one counts; each has members of its own.
struct CountedOutcome {
  explicit CountedOutcome(CallInContext first)
      : context(std::move(first)),
        order(context.call->order),
        place(context.call->place),
        name(context.call->content->function),
        is_unfinished(context.call->status == CallStatus::unfinished) {}

  /// The first call; without its calls once that was counted.
  CallInContext context;
  // Of the first call:
  const std::size_t order;
  const CallPlace place;
  const std::string name;  ///< of the function
  const bool is_unfinished;
  std::shared_ptr<const Outcome> outcome;  ///< null until it is bound
  std::vector<std::int64_t> told;          ///< extents in it that stand for told numbers

  // Of counting:
  FunctionCounts* function = nullptr;  ///< null until the first call was counted
  std::uint64_t waiting = 0;           ///< calls that were counted, but not yet everywhere
};

/// Outcomes by key, at most so many.
class OutcomeTable {
 public:
  /// Null if there is none.
  std::shared_ptr<CountedOutcome> find(const Hash128& key) const {
    const auto found = outcomes_.find(key);
    return found == outcomes_.end() ? nullptr : found->second;
  }
  void add(const Hash128& key, std::shared_ptr<CountedOutcome> outcome) {
    if (outcomes_.size() >= max_outcomes) outcomes_.clear();
    outcomes_.insert_or_assign(key, std::move(outcome));
  }

 private:
  static constexpr std::size_t max_outcomes = 4'096;
  std::unordered_map<Hash128, std::shared_ptr<CountedOutcome>> outcomes_;
};

}  // namespace cw
