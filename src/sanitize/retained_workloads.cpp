#include "sanitize/retained_workloads.h"

#include <algorithm>
#include <bit>

namespace cw {

std::vector<int> octaves(const Definition& definition, const std::vector<std::int64_t>& axes) {
  std::vector<int> cell;
  for (std::size_t i = 0; i < axes.size(); ++i)
    if (!definition.axes[i].constant)
      cell.push_back(static_cast<int>(
          std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(axes[i], 0)))));
  return cell;
}

void RetainedWorkloads::add(const Target* target, const Hash128& key, Workload workload) {
  Kept& kept = kept_[target];
  const Cell cell = octaves(*workload.definition, workload.axes);
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
