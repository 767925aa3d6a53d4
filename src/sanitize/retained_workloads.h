// Whole workloads kept in memory while the calls they came from are deleted.
//
// Bounded: a maximum per definition is kept, spread over the octaves of its var axes. When there
// are too many, the fullest cell loses the one with the largest key, so that the choice within a
// cell does not depend on the order in which workloads arrive.
#pragma once

#include <map>
#include <vector>

#include "bind/binder.h"
#include "workload/distribution.h"
#include "workload/workload.h"

namespace cw {

/// The extents of the var axes, in the definition's order. Workloads whose extents lie in the same
/// octaves form a cell: they have about the same size.
Extents var_extents(const Definition& definition, const std::vector<std::int64_t>& axes);

class RetainedWorkloads {
 public:
  explicit RetainedWorkloads(std::size_t max_per_definition) : max_(max_per_definition) {}

  void add(const Target* target, const Hash128& key, Workload workload);
  /// Null if it was not kept.
  const Workload* find(const Target* target, const Hash128& key) const;

 private:
  using Cell = std::vector<int>;
  struct Kept {
    std::map<Hash128, Workload> workloads;
    std::map<Cell, std::vector<Hash128>> cells;  ///< keys ascending
  };
  std::size_t max_;
  std::map<const Target*, Kept> kept_;
};

}  // namespace cw
