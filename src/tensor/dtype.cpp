#include "tensor/dtype.h"

#include <array>

namespace cw {
namespace {

struct Row {
  DType dtype;
  unsigned bits;
  char kind;  // f: floating point, i: integer, o: other
  std::string_view trace;
  std::string_view safetensors;
};

// torch's names are the trace names except for float4_e2m1, which torch has only packed in pairs;
// it is packed here too, and flashinfer-bench counts it so. safetensors counts single values: its
// last axis is twice as long (safetensors.h).
constexpr std::array rows{
    Row{DType::float64, 64, 'f', "float64", "F64"},
    Row{DType::float32, 32, 'f', "float32", "F32"},
    Row{DType::float16, 16, 'f', "float16", "F16"},
    Row{DType::bfloat16, 16, 'f', "bfloat16", "BF16"},
    Row{DType::float8_e4m3fn, 8, 'f', "float8_e4m3fn", "F8_E4M3"},
    Row{DType::float8_e5m2, 8, 'f', "float8_e5m2", "F8_E5M2"},
    Row{DType::float8_e8m0fnu, 8, 'f', "float8_e8m0fnu", "F8_E8M0"},
    Row{DType::float4_e2m1, 8, 'f', "float4_e2m1", "F4"},
    Row{DType::int64, 64, 'i', "int64", "I64"},
    Row{DType::int32, 32, 'i', "int32", "I32"},
    Row{DType::int16, 16, 'i', "int16", "I16"},
    Row{DType::int8, 8, 'i', "int8", "I8"},
    Row{DType::uint64, 64, 'i', "uint64", "U64"},
    Row{DType::uint32, 32, 'i', "uint32", "U32"},
    Row{DType::uint16, 16, 'i', "uint16", "U16"},
    Row{DType::uint8, 8, 'i', "uint8", "U8"},
    Row{DType::boolean, 8, 'o', "bool", "BOOL"},
    Row{DType::complex64, 64, 'o', "complex64", "C64"},
};

const Row& row(DType dtype) {
  return rows[static_cast<std::size_t>(dtype)];
}

std::optional<DType> find(std::string_view name, std::string_view Row::*column) {
  for (const Row& r : rows)
    if (r.*column == name) return r.dtype;
  return std::nullopt;
}

}  // namespace

unsigned bits(DType dtype) {
  return row(dtype).bits;
}
bool is_integer(DType dtype) {
  return row(dtype).kind == 'i';
}
std::string_view trace_name(DType dtype) {
  return row(dtype).trace;
}
std::string_view safetensors_name(DType dtype) {
  return row(dtype).safetensors;
}

std::optional<DType> dtype_from_trace(std::string_view name) {
  return find(name, &Row::trace);
}

std::optional<DType> dtype_from_torch(std::string_view name) {
  if (name.starts_with("torch.")) name.remove_prefix(6);
  if (name == "float4_e2m1fn_x2") return DType::float4_e2m1;
  return find(name, &Row::trace);
}

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  return find(name, &Row::safetensors);
}

}  // namespace cw
