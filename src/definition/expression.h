// The expressions that definitions and bindings are written in: a small, pure subset of Python.
//
//   len_indptr == batch_size + 1          num_kv_indices == kv_indptr[-1].item()
//   gemm1_weights.shape[1] == 2 * n       plan.window_left is not None and plan.window_left >= 0
//
// Values are None, booleans, 64-bit integers, doubles, strings, shapes and tensors. Arithmetic and
// sqrt() give None when an operand is None; `and`, `or`, `not` and truth follow Python. Names are
// looked up by the caller, so that nothing but what it provides can be accessed.
//
//   expression = disjunction; or/and/not, comparisons (== != < <= > >= is [not] None, chained)
//   sum, product (* / // %), unary -, then postfix: .shape, .item(), [integer]
//   atom       = number | 'string' | None | True | False | name.with.dots | f(args) | (expression)
//   functions  = sqrt(x), len(x), min(x, …), max(x, …), given(name)
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "tensor/shape.h"

namespace cw {

/// A tensor as expressions see it. `values` loads the dense bytes and is called only for elements.
struct TensorOperand {
  DType dtype;
  Shape shape;
  std::function<Result<std::shared_ptr<const DenseTensor>>()> values;
  /// Set where extents of `shape` are no numbers: called when one is needed, gives the error.
  std::function<Error()> no_extents = {};
  bool has_elements = false;  ///< then: whether it has some for certain
};

using Operand =
    std::variant<std::monostate, bool, std::int64_t, double, std::string, Shape, TensorOperand>;

/// Python's truthiness of a value; a tensor is an error in Python but true here.
bool truth(const Operand& value);
bool is_none(const Operand& value);
/// "None", "32", "[4, 128]", "a tensor int32 [4]": for messages.
std::string describe(const Operand& value);
/// Integers and integral doubles; nothing else.
std::optional<std::int64_t> as_integer(const Operand& value);
std::optional<double> as_number(const Operand& value);

/// What an expression's names stand for.
class NameResolver {
 public:
  virtual ~NameResolver() = default;
  /// Value of a dotted name; error "unknown_name" if there is none.
  virtual Result<Operand> value_of(std::string_view name) const = 0;
  /// given(name): whether the API's caller passed it rather than leaving it at its default.
  virtual bool is_given(std::string_view) const { return true; }
};

class Expression {
 public:
  /// Error code "expression_syntax"; the message shows the text and the position.
  static Result<Expression> parse(std::string_view text);

  /// Error codes: "unknown_name", "expression_type", and whatever loading a tensor's values gives.
  Result<Operand> evaluate(const NameResolver& names) const;

  const std::string& text() const { return text_; }
  /// Whether evaluating it evaluates every part, whatever the names' values: there is nothing in it
  /// that decides early, or fails on some numbers.
  bool evaluates_everything() const;
  /// Whether a dotted name is in it.
  bool mentions(std::string_view name) const;
  /// Every dotted name in it, with repeats.
  std::vector<std::string> names() const;

  struct Node;

 private:
  std::string text_;
  std::shared_ptr<const Node> root_;
};

}  // namespace cw
