#include "capture/value.h"

namespace cw {

// Index tensors are at most a few MB; this bounds what a damaged record can ask for.
constexpr std::uint64_t max_read = std::uint64_t{4} << 30;

std::size_t memory_of(const Value& value) {
  constexpr std::size_t extents = 16 * sizeof(std::int64_t);
  std::size_t size = sizeof(Value) + extents;
  if (const auto* text = std::get_if<std::string>(&value.data)) size += text->size();
  if (const auto* opaque = std::get_if<Opaque>(&value.data))
    size += opaque->type.size() + opaque->text.size();
  if (const auto* number = std::get_if<Enumerator>(&value.data)) size += number->name.size();
  if (const auto* sequence = std::get_if<Sequence>(&value.data))
    for (const Value& item : sequence->items) size += memory_of(item);
  return size;
}

std::size_t memory_of(const std::vector<std::pair<std::string, Value>>& arguments) {
  std::size_t size = 0;
  for (const auto& [name, value] : arguments) size += sizeof name + name.size() + memory_of(value);
  return size;
}

bool is_not_kept(std::string_view code) {
  return code == "values_sampled_out" || code == "values_lost" || code == "values_in_graph" ||
         code == "values_not_recorded";
}

Result<DenseTensor> read_front(const Tensor& tensor, std::uint64_t count) {
  if (const auto size = byte_count(tensor.dtype, count); !size || *size > max_read)
    return fail("too_large", "a tensor of {} {} is not read into memory", count,
                trace_name(tensor.dtype));
  CW_TRY(std::string bytes, tensor.store->read(tensor.entry, count));
  return DenseTensor{tensor.dtype, {static_cast<std::int64_t>(count)}, std::move(bytes)};
}

Result<DenseTensor> read_all(const Tensor& tensor, const Shape& shape) {
  CW_TRY(DenseTensor dense, read_front(tensor, *element_count(shape)));
  dense.shape = shape;
  return dense;
}

}  // namespace cw
