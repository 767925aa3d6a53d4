// Tensors without Python: dlpack.h 1.3, struct DLPackExchangeAPI, found as
// torch.Tensor.__dlpack_c_exchange_api__.
#pragma once

#include <cstdint>

namespace cw::recorder {

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
inline bool is_on_device(const DLTensor& tensor) {
  return tensor.device_type != on_cpu && tensor.device_type != on_pinned_host;
}

}  // namespace cw::recorder
