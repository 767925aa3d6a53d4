#include "tensor/shape.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace cw {
namespace {

template <typename T>
T load(std::string_view bytes, std::size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// Calls `visit` with a zero of an integer dtype's C++ type; anything else counts as bytes.
template <typename Visit>
auto with_integer_type(DType dtype, Visit visit) {
  switch (dtype) {
    case DType::int64:
      return visit(std::int64_t{});
    case DType::int32:
      return visit(std::int32_t{});
    case DType::int16:
      return visit(std::int16_t{});
    case DType::int8:
      return visit(std::int8_t{});
    case DType::uint64:
      return visit(std::uint64_t{});
    case DType::uint32:
      return visit(std::uint32_t{});
    case DType::uint16:
      return visit(std::uint16_t{});
    default:
      return visit(std::uint8_t{});
  }
}

float from_bfloat16(std::uint16_t raw) {
  return std::bit_cast<float>(std::uint32_t{raw} << 16);
}

// IEEE 754 binary16.
double from_float16(std::uint16_t raw) {
  const int exponent = (raw >> 10) & 31;
  const int mantissa = raw & 1023;
  const double sign = (raw & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31)
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(mantissa + 1024, exponent - 25);
}

std::uint16_t to_bfloat16(float value) {
  const auto raw = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((raw >> 16) | 0x40);
  return static_cast<std::uint16_t>((raw + 0x7fff + ((raw >> 16) & 1)) >> 16);
}

template <typename T>
bool append_if_it_fits(std::int64_t value, std::string& bytes) {
  if (!std::in_range<T>(value)) return false;
  const T narrow = static_cast<T>(value);
  bytes.append(reinterpret_cast<const char*>(&narrow), sizeof narrow);
  return true;
}

bool append_integer(DType dtype, std::int64_t value, std::string& bytes) {
  switch (dtype) {
    case DType::int64:
      return append_if_it_fits<std::int64_t>(value, bytes);
    case DType::int32:
      return append_if_it_fits<std::int32_t>(value, bytes);
    case DType::int16:
      return append_if_it_fits<std::int16_t>(value, bytes);
    case DType::int8:
      return append_if_it_fits<std::int8_t>(value, bytes);
    case DType::uint64:
      return append_if_it_fits<std::uint64_t>(value, bytes);
    case DType::uint32:
      return append_if_it_fits<std::uint32_t>(value, bytes);
    case DType::uint16:
      return append_if_it_fits<std::uint16_t>(value, bytes);
    case DType::uint8:
      return append_if_it_fits<std::uint8_t>(value, bytes);
    default:
      return false;
  }
}

}  // namespace

std::optional<std::uint64_t> element_count(const Shape& shape) {
  std::int64_t count = 1;
  bool overflow = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0) return std::nullopt;
    overflow |= __builtin_mul_overflow(count, extent, &count);
    if (extent == 0) return 0;
  }
  if (overflow) return std::nullopt;
  return static_cast<std::uint64_t>(count);
}

std::optional<std::uint64_t> byte_count(DType dtype, std::uint64_t count) {
  std::uint64_t total;
  if (__builtin_mul_overflow(count, bits(dtype), &total) || total % 8 != 0) return std::nullopt;
  return total / 8;
}

std::string to_string(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::int64_t integer_at(DType dtype, std::string_view bytes, std::size_t index) {
  return with_integer_type(dtype, [&](auto zero) {
    return static_cast<std::int64_t>(load<decltype(zero)>(bytes, index));
  });
}

std::vector<std::int64_t> integers(const DenseTensor& tensor) {
  std::vector<std::int64_t> values(tensor.bytes.size() * 8 / bits(tensor.dtype));
  with_integer_type(tensor.dtype, [&](auto zero) {
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<std::int64_t>(load<decltype(zero)>(tensor.bytes, i));
    return 0;
  });
  return values;
}

std::optional<std::pair<std::int64_t, std::int64_t>> integer_range(const DenseTensor& tensor) {
  const std::size_t count = tensor.bytes.size() * 8 / bits(tensor.dtype);
  if (count == 0) return std::nullopt;
  return with_integer_type(tensor.dtype, [&](auto zero) {
    // In the tensor's own type, which the compiler can do for several at once; but for what int64
    // does not hold, which is negative, as in integers().
    using Own = decltype(zero);
    using Type = std::conditional_t<sizeof(Own) == sizeof(std::int64_t), std::int64_t, Own>;
    auto min = load<Type>(tensor.bytes, 0), max = min;
    for (std::size_t i = 1; i < count; ++i) {
      const auto value = load<Type>(tensor.bytes, i);
      min = std::min(min, value);
      max = std::max(max, value);
    }
    return std::pair(static_cast<std::int64_t>(min), static_cast<std::int64_t>(max));
  });
}

std::optional<double> number_at(DType dtype, std::string_view bytes, std::size_t index) {
  switch (dtype) {
    case DType::float64:
      return load<double>(bytes, index);
    case DType::float32:
      return load<float>(bytes, index);
    case DType::bfloat16:
      return from_bfloat16(load<std::uint16_t>(bytes, index));
    case DType::float16:
      return from_float16(load<std::uint16_t>(bytes, index));
    default:
      break;
  }
  if (is_integer(dtype) || dtype == DType::boolean)
    return static_cast<double>(integer_at(dtype, bytes, index));
  return std::nullopt;
}

DenseTensor from_integers(DType dtype, Shape shape, std::span<const std::int64_t> values) {
  DenseTensor tensor{dtype, std::move(shape), {}};
  for (const std::int64_t value : values) append_integer(dtype, value, tensor.bytes);
  return tensor;
}

std::optional<DenseTensor> cast(const DenseTensor& tensor, DType to) {
  if (tensor.dtype == to) return tensor;
  DenseTensor result{to, tensor.shape, {}};

  if (is_integer(tensor.dtype) && is_integer(to)) {
    for (const std::int64_t value : integers(tensor))
      if (!append_integer(to, value, result.bytes)) return std::nullopt;
    return result;
  }

  if (is_integer(tensor.dtype) && to == DType::float32) {
    for (const std::int64_t value : integers(tensor)) {
      const auto real = static_cast<float>(value);
      if (static_cast<double>(real) != static_cast<double>(value)) return std::nullopt;
      result.bytes.append(reinterpret_cast<const char*>(&real), sizeof real);
    }
    return result;
  }

  if (tensor.dtype == DType::float32 && to == DType::bfloat16) {
    for (std::size_t i = 0; i < tensor.bytes.size() / 4; ++i) {
      const std::uint16_t raw = to_bfloat16(load<float>(tensor.bytes, i));
      result.bytes.append(reinterpret_cast<const char*>(&raw), sizeof raw);
    }
    return result;
  }
  return std::nullopt;
}

}  // namespace cw
