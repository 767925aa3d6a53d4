// Checks of index tensors: no workload may make a kernel read out of bounds. Which checks a
// definition needs is data: data/bindings.yaml lists them next to its inputs.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "definition/definition.h"

namespace cw {

struct IndexCheck {
  enum class Kind {
    indptr,          ///< starts at 0 and never decreases
    indices,         ///< every entry in 0 … limit - 1
    indices_or_pad,  ///< the same, or -1
    last_page_len,   ///< every entry in 1 … page size, or 0 for padding sequences without a page
    one_each,        ///< 0, 1, 2, …: one query per sequence
    lengths,         ///< equals the differences of an indptr
    causal_lengths,  ///< at least as many keys as queries in every sequence
  };
  Kind kind;
  std::string subject;              ///< an input, or a dotted name
  std::string other;                ///< last_page_len, lengths, causal_lengths: the second tensor
  std::string last_page;            ///< causal_lengths: the input with last-page lengths
  std::optional<Expression> limit;  ///< indices, last_page_len
};

/// The tensors that a check uses; which of them depends on its kind.
struct IndexTensors {
  const DenseTensor& subject;
  const DenseTensor* other;          ///< last_page_len, lengths, causal_lengths: the second tensor
  const DenseTensor* last_page_len;  ///< causal_lengths: last-page lengths; null: pages are full
  std::int64_t limit;                ///< indices, last_page_len: the bound
  std::int64_t page_size;            ///< lengths, causal_lengths
};

/// The first violation, as a predicate of the subject ("starts at 1, not 0"); nothing if there is
/// none.
std::optional<std::string> violation(IndexCheck::Kind kind, const IndexTensors& tensors);

/// Evaluates a check of a definition; `names` resolves its axes and inputs, and dotted names. Error
/// codes: "structure" (it is violated), "input_missing" (a tensor is missing), and those of names
/// and of loading values.
Result<void> evaluate(const IndexCheck& check, const Definition& definition,
                      const NameResolver& names);

/// The checks of a definition. Error code "no_binding": nothing is known about it.
using IndexChecksOf = std::function<Result<std::span<const IndexCheck>>(const Definition&)>;

}  // namespace cw
