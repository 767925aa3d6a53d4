// The types of objects passed to the engine's calls, and how each is read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "exchange.h"
#include "python.h"
#include "tensor_layout.h"

namespace cw::recorder {

struct Types {
  PyTypeObject* tensor = nullptr;         ///< torch.Tensor; null until torch is loaded
  PyTypeObject* dtype = nullptr;          ///< torch.dtype; null likewise
  PyTypeObject* enumeration = nullptr;    ///< enum.Enum; set by prepare()
  const ExchangeApi* exchange = nullptr;  ///< null: torch is older than 2.10
  std::optional<TensorLayout> layout;     ///< only where `exchange` is known
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
