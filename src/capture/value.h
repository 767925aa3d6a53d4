// Arguments of a captured call, as the capture recorded them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "tensor/shape.h"

namespace cw {

/// Where tensors' bytes lie. Nothing is read before read() is called.
class TensorStore {
 public:
  virtual ~TensorStore() = default;
  /// The first `count` elements, in row-major order of the tensor's shape, of tensor number
  /// `entry`. `count` is at most the tensor's element count.
  virtual Result<std::string> read(std::size_t entry, std::uint64_t count) const = 0;
};

struct Tensor {
  DType dtype;
  Shape shape;
  std::shared_ptr<const TensorStore> store;
  std::size_t entry = 0;
  std::uint64_t address = 0;  ///< where it lay in the engine's process; 0: not known
  /// How many of its elements count, where the capture tells that without them; the rest is a
  /// buffer's.
  std::optional<std::uint64_t> used;
};

/// Whether reading a tensor failed with this code because the capture did not keep its values,
/// which the call had: in all but them it is as good as others.
bool is_not_kept(std::string_view code);

/// The first `count` elements as a dense tensor of shape [count], or all of them in their own
/// shape.
Result<DenseTensor> read_front(const Tensor& tensor, std::uint64_t count);
Result<DenseTensor> read_all(const Tensor& tensor);

struct Value;

/// A tuple, list or named tuple. Items past a capture's nesting limit are missing: `truncated`.
struct Sequence {
  std::vector<Value> items;
  bool truncated = false;
};

struct Enumerator {
  std::string name;  ///< "Fp8QuantizationType.DeepSeekFp8"
  std::int64_t value;
};

/// Something of which only type and printed form were kept: dtypes, devices, dataclasses, dicts.
struct Opaque {
  std::string type;
  std::string text;
};

struct Value {
  std::variant<std::monostate, bool, std::int64_t, double, std::string, Tensor, Sequence,
               Enumerator, Opaque>
      data;

  bool is_none() const { return std::holds_alternative<std::monostate>(data); }
  const Tensor* tensor() const { return std::get_if<Tensor>(&data); }
};

/// Bytes that they take in memory, about; at least as many as they do.
std::size_t memory_of(const Value& value);
std::size_t memory_of(const std::vector<std::pair<std::string, Value>>& arguments);

}  // namespace cw
