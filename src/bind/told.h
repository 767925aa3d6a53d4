// Numbers that a capture tells of a tensor without the values that show them (Call::told): how many
// of its elements are in use, and how many a list has at all.
//
// Calls that differ in nothing else are bound once: what is told stands for itself, as extents of a
// kind of their own, which may be passed on and compared with themselves. Where binding depends on
// such a number, it notes which, and the call is bound again with that one as it is.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "bind/association.h"
#include "tensor/shape.h"

namespace cw {

/// Which of a call's context a tensor belongs to.
enum class ContextRole : std::uint8_t { call, plan, init };

struct ToldNumber {
  enum class Kind : std::uint8_t { used, extent };
  ContextRole role = ContextRole::call;
  Kind kind = Kind::used;
  std::uint32_t tensor = 0;  ///< Tensor::entry

  auto operator<=>(const ToldNumber&) const = default;
};

/// State of one symbolic binding; used by one thread.
struct ToldSymbols {
  std::vector<ToldNumber> known;  ///< extents that are taken as they are
  /// What the outcome depends on: with anything here, it is not the call's.
  std::vector<ToldNumber> met;
};

/// The error code of what depends on a told number.
inline constexpr const char* depends_on_told = "depends_on_told";

/// The extent that stands for a told number, and back.
std::int64_t symbol_of(const ToldNumber& told);
ToldNumber told_number(std::int64_t symbol);

/// Without symbols, such an extent is just a number that a call was given.
inline bool is_told(std::int64_t extent, const CallInContext& context) {
  return context.symbols != nullptr && extent < unknown_extent;
}
template <typename Range>
bool has_told(const Range& extents, const CallInContext& context) {
  for (const std::int64_t extent : extents)
    if (is_told(extent, context)) return true;
  return false;
}

/// Notes that the outcome depends on this extent, if it is told.
void meet(std::int64_t extent, const CallInContext& context);
template <typename Range>
void meet_all(const Range& extents, const CallInContext& context) {
  for (const std::int64_t extent : extents) meet(extent, context);
}

/// Whether the shape is that of a list whose extent is told; it is at least 2.
inline bool is_list(const Shape& shape, const CallInContext& context) {
  return shape.size() == 1 && is_told(shape[0], context) &&
         told_number(shape[0]).kind == ToldNumber::Kind::extent;
}

ContextRole role_of(const Call& owner, const CallInContext& context);
/// The tensor's shape in the call that it was passed to; may be told.
Shape shape_in(const CallInContext& context, const Call& owner, const Tensor& tensor);
/// How many elements of a call's tensor are in use; nothing if the capture does not tell.
std::optional<std::int64_t> used_count(const Call& call, std::size_t tensor);

/// The number in this context; unknown_extent if it is not told there.
std::int64_t number_of(const ToldNumber& told, const CallInContext& context);

}  // namespace cw
