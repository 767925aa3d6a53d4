// Checks of index tensors: what a kernel would read out of bounds, no workload may hold.
#pragma once

#include <optional>
#include <string>

#include "bind/binding.h"

namespace cw {

/// What a check looks at; which of it depends on the kind.
struct CheckedValues {
  const DenseTensor& subject;
  const DenseTensor* other;  ///< last_page_len, lengths, causal_lengths: the second index tensor
  const DenseTensor*
      last_page_len;       ///< causal_lengths: entries of each last page; null: pages are full
  std::int64_t limit;      ///< indices, last_page_len: the bound
  std::int64_t page_size;  ///< lengths, causal_lengths
};

/// The first thing wrong under a check, as a message; nothing when all is well.
std::optional<std::string> violation(Check::Kind kind, const CheckedValues& values);

}  // namespace cw
