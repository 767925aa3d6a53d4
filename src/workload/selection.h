// Which of many workloads to keep: few, and spread over what the kernel will meet.
#pragma once

#include <cstddef>
#include <vector>

#include "workload/collector.h"

namespace cw {

/// Positions of at most `most` entries, ascending. `entries` must be in Collector::take's order.
///
/// The space of var axes is cut into cells of equal width in log2, as fine as gives no more than
/// `most` cells that are in use. Each cell gives its most frequent entry, by the calls that it
/// stands for, the cells with the most calls first; then each its second, until `most` are chosen.
/// Equal frequencies are settled by axes and content, so that the choice depends on nothing but the
/// entries.
std::vector<std::size_t> select_diverse(const std::vector<Entry>& entries, std::size_t most);

}  // namespace cw
