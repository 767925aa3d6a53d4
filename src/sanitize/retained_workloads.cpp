#include "sanitize/retained_workloads.h"

#include <algorithm>

namespace cw {

Extents var_extents(const Definition& definition, const std::vector<std::int64_t>& axes) {
  Extents extents;
  for (std::size_t i = 0; i < axes.size(); ++i)
    if (!definition.axes[i].constant) extents.push_back(axes[i]);
  return extents;
}

void RetainedWorkloads::add(const Target* target, const Hash128& key, Workload workload) {
  Kept& kept = kept_[target];
  const Cell cell = octaves_of(var_extents(*workload.definition, workload.axes));
  if (!kept.workloads.emplace(key, std::move(workload)).second) return;
  std::vector<Hash128>& keys = kept.cells[cell];
  keys.insert(std::ranges::upper_bound(keys, key), key);
  if (kept.workloads.size() <= max_) return;
  const auto fullest = std::ranges::max_element(
      kept.cells, [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  kept.workloads.erase(fullest->second.back());
  fullest->second.pop_back();
}

const Workload* RetainedWorkloads::find(const Target* target, const Hash128& key) const {
  const auto kept = kept_.find(target);
  if (kept == kept_.end()) return nullptr;
  const auto found = kept->second.workloads.find(key);
  return found == kept->second.workloads.end() ? nullptr : &found->second;
}

}  // namespace cw
