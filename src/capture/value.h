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

/// Storage of tensors' bytes. Nothing is read before read() is called.
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
  std::size_t entry = 0;  ///< among the call's tensors
};

/// Whether this error code of reading a tensor means that the capture did not keep its values;
/// apart from those, the call is as good as any other.
bool is_not_kept(std::string_view code);

/// The first `count` elements as a dense tensor of shape [count], or all of them in the shape that
/// the call has them in (Call::shape_of).
Result<DenseTensor> read_front(const Tensor& tensor, std::uint64_t count);
Result<DenseTensor> read_all(const Tensor& tensor, const Shape& shape);

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

/// Something whose type and printed form alone were kept: dtypes, devices, dataclasses, dicts.
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

/// Approximate memory use in bytes; never an underestimate.
std::size_t memory_of(const Value& value);
std::size_t memory_of(const std::vector<std::pair<std::string, Value>>& arguments);

}  // namespace cw
