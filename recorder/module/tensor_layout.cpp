#include "tensor_layout.h"

#include <algorithm>
#include <array>

namespace cw::recorder {
namespace {

constexpr std::size_t word_size = sizeof(std::uint64_t);

// The address of its TensorImpl, as PyTorch itself tells it; null: it does not.
const char* impl_of(PyObject* tensor) {
  const Ref address(PyObject_GetAttrString(tensor, "_cdata"));
  const char* found = nullptr;
  if (address && PyLong_Check(address.get()))
    found = static_cast<const char*>(PyLong_AsVoidPtr(address.get()));
  clear_error();
  return found;
}

}  // namespace

std::optional<TensorLayout> TensorLayout::find(const ExchangeApi& exchange,
                                               std::span<const Sample, 4> samples) {
  std::array<const char*, 4> impls{};
  std::ranges::transform(samples, impls.begin(),
                         [](const Sample& sample) { return impl_of(sample.tensor); });
  if (std::ranges::count(impls, nullptr) > 0) return {};
  TensorLayout layout;

  // The reference to it, behind the header of every Python object and within the smallest tensor.
  constexpr std::size_t end_of_object = 40;
  const auto refers = [&](std::size_t offset) {
    for (std::size_t i = 0; i < samples.size(); ++i)
      if (at<const char*>(samples[i].tensor, offset) != impls[i]) return false;
    return true;
  };
  layout.impl_ = sizeof(PyObject);
  while (layout.impl_ < end_of_object && !refers(layout.impl_)) layout.impl_ += word_size;
  if (layout.impl_ >= end_of_object) return {};

  // The extents, where the API says that they are, and the rank before them.
  constexpr std::ptrdiff_t end_of_sizes = 128;
  for (std::size_t i = 0; i < 3; ++i) {
    DLTensor known{};
    if (exchange.view(samples[i].tensor, &known) != 0) {
      PyErr_Clear();
      return {};
    }
    const std::ptrdiff_t offset = reinterpret_cast<const char*>(known.shape) - impls[i];
    if (offset < static_cast<std::ptrdiff_t>(word_size) || offset >= end_of_sizes ||
        (i > 0 && static_cast<std::size_t>(offset) != layout.sizes_) ||
        at<std::int64_t>(impls[i], static_cast<std::size_t>(offset) - word_size) !=
            known.dimensions)
      return {};
    layout.sizes_ = static_cast<std::size_t>(offset);
  }

  // Data type and device, close behind the strides: both alike in the first two, and each another
  // number in its own sample; and behind them the dispatch keys.
  constexpr std::size_t words_searched = 4;
  const std::size_t begin = layout.sizes_ + 2 * max_rank * word_size;
  for (layout.type_ = begin; layout.type_ < begin + words_searched * word_size;
       layout.type_ += word_size) {
    std::array<std::uint32_t, 4> types{};
    bool has_keys = true;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      types[i] = at<std::uint32_t>(impls[i], layout.type_) & type_bits;
      has_keys =
          has_keys && at<std::uint64_t>(impls[i], layout.type_ + word_size) == samples[i].keys;
    }
    const std::uint32_t other_data_type = types[0] ^ types[2], other_device = types[0] ^ types[3];
    if (has_keys && types[0] == types[1] && other_data_type != 0 &&
        (other_data_type & ~data_type_bits) == 0 && other_device != 0 &&
        (other_device & data_type_bits) == 0)
      return layout;
  }
  return {};
}

}  // namespace cw::recorder
