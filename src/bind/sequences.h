// The sequences of a call's batch: how long they are, and whether they can be real traffic.
#pragma once

#include <cstdint>
#include <vector>

#include "bind/association.h"

namespace cw {

/// How many tokens each sequence of a call's batch has, as far as its binding and its plan show.
/// Error codes: those of make_view() and of reading tensors; "not_told".
Result<std::vector<std::int64_t>> lengths_of(const Binding& binding, const CallInContext& context);

/// Whether a batch with these lengths is not traffic: every sequence is shorter than any that an
/// engine really decodes.
bool is_dummy_batch(const Binding& binding, const std::vector<std::int64_t>& lengths);

}  // namespace cw
