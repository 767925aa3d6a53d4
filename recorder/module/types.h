// The types of objects passed to the engine's calls, and how each is read.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>

#include "python.h"

namespace cw::recorder {

// Tensors without Python: dlpack.h 1.3, struct DLPackExchangeAPI, found as
// torch.Tensor.__dlpack_c_exchange_api__.

struct DLTensor {
  void* data;
  std::int32_t device_type, device_id;
  std::int32_t dimensions;
  std::uint8_t code, bits;
  std::uint16_t lanes;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

struct ExchangeApi {
  std::uint32_t major, minor;
  void* older;
  void* unused[3];  // those that create tensors or take ownership
  int (*view)(void* object, DLTensor* out);
  int (*current_stream)(std::int32_t device_type, std::int32_t device_id, void** out);
};

inline constexpr std::int32_t on_cpu = 1, on_cuda = 2, on_pinned_host = 3;

struct Types {
  PyTypeObject* tensor = nullptr;         ///< torch.Tensor; null until torch is loaded
  PyTypeObject* dtype = nullptr;          ///< torch.dtype; null likewise
  PyTypeObject* enumeration = nullptr;    ///< enum.Enum; set by prepare()
  const ExchangeApi* exchange = nullptr;  ///< null: torch is older than 2.10
  Ref raw_stream;  ///< torch._C._cuda_getCurrentRawStream, where the exchange API is missing

  /// Names of attributes, interned.
  struct {
    Ref shape, dtype, data_ptr, device, index, type, name, enum_value, enum_name;
  } names;
  std::unordered_map<PyObject*, std::pair<Ref, std::string>> dtype_names;  ///< as str() gives them

  /// On failure, false with a Python error set.
  bool prepare();
  /// The caller's stream on a CUDA device; may run Python, and throw EnginesException.
  void* stream(std::int32_t device) const;
};

}  // namespace cw::recorder
