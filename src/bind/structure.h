// Checks of index tensors: what a kernel would read out of bounds, no workload may hold.
#pragma once

#include <optional>
#include <string>

#include "bind/binding.h"

namespace cw {

/// The first thing wrong with `values` under a check, as a message; nothing when all is well.
/// `other` is the second tensor of `lengths` and `causal_lengths`; `limit` bounds `indices` and
/// `last_page_len`; `page_size` is used by `lengths`.
std::optional<std::string> violation(Check::Kind kind, const DenseTensor& values, const DenseTensor* other,
                                     std::int64_t limit, std::int64_t page_size);

}  // namespace cw
