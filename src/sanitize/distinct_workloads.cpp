#include "sanitize/distinct_workloads.h"

#include <algorithm>
#include <tuple>

namespace cw {

Origin origin_of(const CallInContext& context) {
  Origin origin{.call = context.call->order, .call_place = context.call->place};
  if (context.plan) {
    origin.plan = context.plan->order;
    origin.plan_place = context.plan->place;
  }
  if (context.init) origin.init_place = context.init->place;
  return origin;
}

bool DistinctWorkloads::add(const Target* target, const Workload& workload, const Hash128& key,
                            const WorkloadNotes& notes, const Origin& origin, std::uint64_t calls) {
  DistinctWorkload& entry = entries_[target][key];
  const bool is_first = entry.seen == 0;
  entry.seen += calls;
  if (is_first) {
    entry.key = key;
    const Definition& definition = *workload.definition;
    for (std::size_t i = 0; i < definition.axes.size(); ++i)
      if (!definition.axes[i].constant) entry.var_axes.push_back(workload.axes[i]);
  }
  if (origin.call < entry.origin.call) {
    entry.origin = origin;
    entry.notes = notes;
  }
  if (entry.plans.size() <= DistinctWorkload::max_plans &&
      std::ranges::find(entry.plans, origin.plan) == entry.plans.end())
    entry.plans.push_back(origin.plan);
  return is_first;
}

std::size_t DistinctWorkloads::count(const Target* target) const {
  const auto found = entries_.find(target);
  return found == entries_.end() ? 0 : found->second.size();
}

// Bound only to plans that were captured: the eager passes before a capture.
bool DistinctWorkloads::is_warmup(const DistinctWorkload& entry) const {
  const auto captured = [this](std::size_t plan) { return captured_plans_.contains(plan); };
  return entry.is_capture_warmup && entry.plans.size() <= DistinctWorkload::max_plans &&
         std::ranges::all_of(entry.plans, captured);
}

void DistinctWorkloads::restore(const Target* target, DistinctWorkload entry) {
  entries_[target].insert_or_assign(entry.key, std::move(entry));
}

void DistinctWorkloads::visit(
    const Target* target,
    const std::function<void(const DistinctWorkload&, bool is_capture_warmup)>& show) const {
  const auto found = entries_.find(target);
  if (found == entries_.end()) return;
  for (const auto& [key, entry] : found->second) show(entry, is_warmup(entry));
}

std::vector<DistinctWorkload> DistinctWorkloads::take(const Target* target) {
  std::vector<DistinctWorkload> result;
  const auto found = entries_.find(target);
  if (found == entries_.end()) return result;
  for (auto& [key, entry] : found->second) {
    entry.is_capture_warmup = is_warmup(entry);
    result.push_back(std::move(entry));
  }
  entries_.erase(found);
  std::ranges::sort(result, [](const DistinctWorkload& a, const DistinctWorkload& b) {
    return std::tie(a.var_axes, a.key) < std::tie(b.var_axes, b.key);
  });
  return result;
}

}  // namespace cw
