// Counts that a capture tells without the values that show them (Call::told), as extents of a
// shape.
//
// Calls that differ in nothing else are bound once: their counts stand for themselves, as extents
// of a kind of their own, which may be passed on and compared with themselves. Where binding
// depends on such a count's value, it says so, and every call is bound on its own.
#pragma once

#include <cstdint>
#include <optional>

#include "bind/association.h"
#include "tensor/shape.h"

namespace cw {

/// Which of a call's context a tensor belongs to.
enum class ContextRole : std::uint8_t { call, plan, init };

/// The error code of what depends on a told count's value.
inline constexpr const char* depends_on_told = "depends_on_told";

/// A told count that stands for itself.
inline std::int64_t told_extent(ContextRole role, std::size_t tensor) {
  return unknown_extent - 1 -
         (static_cast<std::int64_t>(role) << 32 | static_cast<std::int64_t>(tensor));
}
/// Without symbolic counts, such an extent is just a number that a call was given.
inline bool is_told(std::int64_t extent, const CallInContext& context) {
  return context.has_symbolic_counts && extent < unknown_extent;
}
template <typename Range>
bool has_told(const Range& extents, const CallInContext& context) {
  for (const std::int64_t extent : extents)
    if (is_told(extent, context)) return true;
  return false;
}

/// How many elements of a call's tensor are in use; nothing if the capture does not tell.
std::optional<std::int64_t> told_count(const Call& call, std::size_t tensor);

/// The number that a told extent stands for in this context.
std::int64_t number_of(std::int64_t extent, const CallInContext& context);

}  // namespace cw
