// What of an observation is stored: index tensors and what else steers the kernel, scalars; the
// rest is random.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bind/binder.h"
#include "workload/workload.h"

namespace cw {

/// How large a page pool (num_pages) a workload has.
enum class NumPages {
  used,     ///< the highest page used plus one, as the dataset's newest workloads have it
  pool,     ///< the engine's whole pool
  compact,  ///< only the pages in use, renumbered in order
};

struct StoragePolicy {
  NumPages num_pages = NumPages::used;
  /// Inputs whose values are stored although they need not be.
  std::vector<std::string> keep_values;
  /// Store inputs of this many bytes and more, as older collections do.
  std::optional<std::uint64_t> random_below;
};

/// Of an observation with something unseen: the axes that its workload would have, as far as they
/// are known.
std::vector<std::int64_t> known_axes(const Observation& observation, const StoragePolicy& policy);

/// Of an observation with nothing unseen. Error codes are those of reading tensors.
Result<Workload> build_workload(const Observation& observation, const StoragePolicy& policy);

}  // namespace cw
