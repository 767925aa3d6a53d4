// Distinct workloads and how often each was seen.
//
// Values are not kept: an entry holds the workload's key, its var axes and which calls it came
// from, some 150 bytes; what is selected in the end is read again from the capture. So memory grows
// with the number of distinct workloads and not with the number of calls or the length of their
// index tensors.
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

/// Where a workload can be read again: positions of its calls in the capture.
struct Origin {
  static constexpr std::uint32_t none = ~std::uint32_t{0};
  std::uint32_t call = none;
  std::uint32_t plan = none;
  std::uint32_t init = none;
};

Origin origin_of(const CallInContext& context);

/// What is told of a workload beside its content.
struct WorkloadNotes {
  std::vector<std::string> derived;       ///< as Observation::derived
  std::optional<std::int64_t> sequences;  ///< real ones, where the batch was filled up
  bool is_suspicious = false;             ///< no traffic, by its looks
};

struct DistinctWorkload {
  Hash128 key;
  std::vector<std::int64_t> var_axes;  ///< in the definition's order
  std::uint64_t seen = 0;              ///< calls with this very content, that is layers times steps
  std::uint64_t stands_for = 0;        ///< calls that it represents; set by who selects
  Origin origin;                       ///< the first call in the capture's order
  WorkloadNotes notes;                 ///< of that call
  /// Plans under which it was seen; past `max_plans` no more are noted.
  std::vector<std::uint32_t> plans;
  static constexpr std::size_t max_plans = 8;
  /// Seen only under plans that a CUDA graph was captured with; until take(), what an earlier
  /// process found.
  bool is_capture_warmup = true;
};

class DistinctWorkloads {
 public:
  /// Counts an observation of so many calls; `key` is the workload's content_key(). Results do not
  /// depend on the order of calls to add(). Whether it is the first of its kind.
  bool add(const Target* target, const Workload& workload, const Hash128& key,
           const WorkloadNotes& notes, const Origin& origin, std::uint64_t calls = 1);

  /// Notes that a call of this plan was captured into a CUDA graph.
  void add_captured_plan(std::size_t plan) {
    captured_plans_.insert(static_cast<std::uint32_t>(plan));
  }

  /// How many a target has.
  std::size_t count(const Target* target) const;

  /// Puts back what visit() showed to an earlier process.
  void restore(const Target* target, DistinctWorkload entry);
  /// Every entry of a target, in no particular order, with warm-ups marked.
  void visit(
      const Target* target,
      const std::function<void(const DistinctWorkload&, bool is_capture_warmup)>& show) const;

  /// All entries of a target, ordered by var axes and key; marks warm-ups. Destroys the distinct's
  /// own.
  std::vector<DistinctWorkload> take(const Target* target);

 private:
  bool is_warmup(const DistinctWorkload& entry) const;

  std::map<const Target*, std::unordered_map<Hash128, DistinctWorkload>> entries_;
  std::set<std::uint32_t> captured_plans_;
};

}  // namespace cw
