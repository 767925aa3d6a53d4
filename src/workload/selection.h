// Which of many workloads to keep: few, and spread over what the kernel will meet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cw {

/// A workload that may be kept.
struct Candidate {
  std::vector<std::int64_t> var_axes;  ///< in the definition's order
  std::uint64_t stands_for = 0;        ///< calls that it represents
};

/// Positions of at most `max` candidates, ascending. The candidates must be sorted by var axes and
/// content, so that the choice depends on nothing else.
///
/// The space of var axes is divided into cells of equal width in log2, as fine as possible with at
/// most `max` cells occupied. Each cell contributes its most frequent candidate, by the calls that
/// it stands for, the cells with the most calls first; then each its second, until `max` are
/// chosen. Ties go to the candidate that comes first.
std::vector<std::size_t> select_diverse(const std::vector<Candidate>& candidates, std::size_t max);

}  // namespace cw
