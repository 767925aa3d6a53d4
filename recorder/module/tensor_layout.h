// Where PyTorch keeps what tells two tensors apart for a recording.
//
// The exchange API (exchange.h) reads a tensor without Python, but takes some 120 ns within an
// engine's step, as its code is never in the caches by then; most tensors are only compared with
// what was there last time. So the places are found once, in tensors whose descriptions are known;
// where they are not found, tensors are read by the API alone.
//
// In PyTorch 2.14 and 2.15, a Python tensor (THPVariable) refers to a c10::TensorImpl, which has
// the rank, then the extents of up to five axes in place (c10::impl::SizesAndStrides), and behind
// the strides the data type (caffe2::TypeMeta, 16 bits), the device's type (8 bits of a
// c10::Device) and in the next word the dispatch keys (c10::DispatchKeySet), which differ for
// sparse tensors and those that functorch wraps.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "exchange.h"
#include "python.h"

namespace cw::recorder {

class TensorLayout {
 public:
  static constexpr std::uint64_t max_rank = 5;

  /// What is there of one tensor. `extents` are right if `rank` is at most max_rank, for as long as
  /// the tensor lives.
  struct View {
    std::uint64_t rank;
    std::uint64_t keys;  ///< of dispatch
    std::uint32_t type;  ///< data type and type of device: PyTorch's numbers for them
    const std::int64_t* extents;
  };
  View view(PyObject* tensor) const {
    const char* const impl = at<const char*>(tensor, impl_);
    return {at<std::uint64_t>(impl, sizes_ - sizeof(std::uint64_t)),
            at<std::uint64_t>(impl, type_ + sizeof(std::uint64_t)),
            at<std::uint32_t>(impl, type_) & type_bits,
            reinterpret_cast<const std::int64_t*>(impl + sizes_)};
  }

  /// A tensor, and its dispatch keys as torch._C._dispatch_keys has them.
  struct Sample {
    PyObject* tensor;
    unsigned long long keys;
  };
  /// The samples are alike in data type and device, but not in rank, for the first two; the third
  /// has another data type, and the fourth has another device.
  static std::optional<TensorLayout> find(const ExchangeApi& exchange,
                                          std::span<const Sample, 4> samples);

 private:
  static constexpr std::uint32_t type_bits = 0xffffff, data_type_bits = 0xffff;
  template <typename T>
  static T at(const void* object, std::size_t offset) {
    T value;
    std::memcpy(&value, static_cast<const char*>(object) + offset, sizeof value);
    return value;
  }

  std::size_t impl_ = 0;   ///< in the Python object
  std::size_t sizes_ = 0;  ///< in the TensorImpl, like type_
  std::size_t type_ = 0;
};

}  // namespace cw::recorder
