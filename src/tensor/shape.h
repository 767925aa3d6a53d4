// Shapes, and how many elements and bytes they stand for, safe against overflow.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <boost/container/small_vector.hpp>

#include "tensor/dtype.h"

namespace cw {

/// Extents, outermost first; empty: one element. Those that occur need no memory of their own.
using Shape = boost::container::small_vector<std::int64_t, 4>;

/// An extent that is not known, where that may be.
inline constexpr std::int64_t unknown_extent = -1;

/// Number of elements; nothing when an extent is negative or the product leaves 63 bits.
std::optional<std::uint64_t> element_count(const Shape& shape);
/// Bytes of `count` elements; nothing on overflow.
std::optional<std::uint64_t> byte_count(DType dtype, std::uint64_t count);

/// "[4, 32, 128]"
std::string to_string(const Shape& shape);

/// A dense tensor in memory, row-major, little-endian.
struct DenseTensor {
  DType dtype;
  Shape shape;
  std::string bytes;
};

/// Element `index` of dense integer or bool bytes; `index` must be in range.
std::int64_t integer_at(DType dtype, std::string_view bytes, std::size_t index);
/// All elements of an integer tensor, widened.
std::vector<std::int64_t> integers(const DenseTensor& tensor);
/// The least and the greatest element of an integer tensor; nothing when it has none.
std::optional<std::pair<std::int64_t, std::int64_t>> integer_range(const DenseTensor& tensor);
/// Element `index` of a float16, bfloat16, float32, float64, integer or bool tensor; nothing for
/// other types.
std::optional<double> number_at(DType dtype, std::string_view bytes, std::size_t index);
/// Dense tensor from values; every value must fit `dtype`, which has to be an integer type.
DenseTensor from_integers(DType dtype, Shape shape, std::span<const std::int64_t> values);

/// The same values in another type: among integers and from integers to float32 when every value
/// fits, and from float32 to bfloat16 (round to nearest even). Nothing when one does not fit, or
/// for other pairs.
std::optional<DenseTensor> cast(const DenseTensor& tensor, DType to);

}  // namespace cw
