// Element types, under the three names they go by: flashinfer-trace ("bfloat16"), torch
// ("torch.bfloat16") and safetensors ("BF16").
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace cw {

enum class DType : std::uint8_t {
  float64,
  float32,
  float16,
  bfloat16,
  float8_e4m3fn,
  float8_e5m2,
  float8_e8m0fnu,
  float4_e2m1,  ///< torch's float4_e2m1fn_x2: an element is a byte with two values
  int64,
  int32,
  int16,
  int8,
  uint64,
  uint32,
  uint16,
  uint8,
  boolean,
  complex64,
};

/// Bits of one element, a multiple of 8.
unsigned bits(DType dtype);
/// Signed and unsigned integers; not bool.
bool is_integer(DType dtype);

std::string_view trace_name(DType dtype);
std::string_view safetensors_name(DType dtype);

std::optional<DType> dtype_from_trace(std::string_view name);
/// With or without the "torch." in front.
std::optional<DType> dtype_from_torch(std::string_view name);
std::optional<DType> dtype_from_safetensors(std::string_view name);

}  // namespace cw
