#include "capture/value.h"

namespace cw {

// Index tensors are at most some MB; this bounds what a damaged record can ask for.
constexpr std::uint64_t largest_read = std::uint64_t{4} << 30;

Result<DenseTensor> read_front(const Tensor& tensor, std::uint64_t count) {
  if (const auto size = byte_count(tensor.dtype, count); !size || *size > largest_read)
    return fail("too_large", "a tensor of {} {} is not read into memory", count, trace_name(tensor.dtype));
  CW_TRY(std::string bytes, tensor.store->read(tensor.entry, count));
  return DenseTensor{tensor.dtype, {static_cast<std::int64_t>(count)}, std::move(bytes)};
}

Result<DenseTensor> read_all(const Tensor& tensor) {
  CW_TRY(DenseTensor dense, read_front(tensor, *element_count(tensor.shape)));
  dense.shape = tensor.shape;
  return dense;
}

}  // namespace cw
