// Distinct workloads and how often each was seen.
//
// Values are not kept: an entry holds the workload's key, its var axes and which calls it came
// from, about 300 bytes; what is finally selected is read again from the capture. So memory grows
// with the number of distinct workloads, not with the number of calls or the length of their index
// tensors.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "bind/binder.h"
#include "workload/workload.h"

namespace cw {

/// Where a workload comes from: positions of its calls in the capture's order, and the places where
/// they can be read again.
struct Origin {
  static constexpr std::size_t none = ~std::size_t{0};
  std::size_t call = none, plan = none;
  CallPlace call_place;
  std::optional<CallPlace> plan_place, init_place;
};

Origin origin_of(const CallInContext& context);

/// What is known about a workload besides its content.
struct WorkloadNotes {
  std::vector<std::string> derived;       ///< as Observation::derived
  std::optional<std::int64_t> sequences;  ///< real ones in a padded batch
  bool is_suspicious = false;             ///< does not look like traffic
};

struct DistinctWorkload {
  Hash128 key;
  std::vector<std::int64_t> var_axes;  ///< in the definition's order
  std::uint64_t seen = 0;              ///< calls with exactly this content, i.e. layers times steps
  std::uint64_t stands_for = 0;        ///< calls that it represents; set by the selection
  Origin origin;                       ///< the first call in the capture's order
  WorkloadNotes notes;                 ///< of that call
  /// Plans under which it was seen, at most `max_plans`.
  std::vector<std::size_t> plans;
  static constexpr std::size_t max_plans = 8;
  /// Seen only under plans with which a CUDA graph was captured; before take(), as restored from an
  /// earlier process.
  bool is_capture_warmup = true;
};

class DistinctWorkloads {
 public:
  /// Counts an observation of `calls` calls; `key` is the workload's content_key(). Results do not
  /// depend on the order of calls to add(). Returns whether it is the first of its kind.
  bool add(const Target* target, const Workload& workload, const Hash128& key,
           const WorkloadNotes& notes, const Origin& origin, std::uint64_t calls = 1);

  /// Counts more calls of a workload that was added.
  void add_calls(const Target* target, const Hash128& key, std::uint64_t calls) {
    entries_[target][key].seen += calls;
  }

  /// Notes that a call of this plan was captured into a CUDA graph.
  void add_captured_plan(std::size_t plan) { captured_plans_.insert(plan); }

  /// The number of distinct workloads of a target.
  std::size_t count(const Target* target) const;

  /// Restores an entry that visit() gave an earlier process.
  void restore(const Target* target, DistinctWorkload entry);
  /// Visits every entry of a target, in no particular order, with warm-ups marked.
  void visit(
      const Target* target,
      const std::function<void(const DistinctWorkload&, bool is_capture_warmup)>& show) const;

  /// Moves out all entries of a target, ordered by var axes and key; marks warm-ups.
  std::vector<DistinctWorkload> take(const Target* target);

 private:
  bool is_warmup(const DistinctWorkload& entry) const;

  std::map<const Target*, std::unordered_map<Hash128, DistinctWorkload>> entries_;
  std::set<std::size_t> captured_plans_;
};

}  // namespace cw
