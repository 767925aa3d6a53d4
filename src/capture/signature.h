// Printed Python signatures, str(inspect.signature(f)), used to name positional arguments.
//
//   (self, indptr: torch.Tensor, page_size: int, *deprecated_args: Any, **kwargs: Any) -> None
//   (probs: torch.Tensor, top_k: Union[torch.Tensor, int], *, check_nan: bool = False) -> Any
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "capture/value.h"

namespace cw {

struct Parameter {
  enum class Kind { positional, variadic, keyword_only, variadic_keyword };
  std::string name;
  Kind kind = Kind::positional;
  /// The default, if it is a literal: None, a boolean, a number or a string.
  std::optional<Value> default_value;
};

struct Signature {
  std::vector<Parameter> parameters;  ///< including `self`, as printed
  std::uint64_t digest = 0;           ///< of the text: equal signatures have equal ones

  /// Name of positional argument `index`. Arguments absorbed by a `*name` are called "*0", "*1", …:
  /// the signature does not give their names, but a binding may. Error code "signature_mismatch" if
  /// the signature does not take that many.
  Result<std::string> positional(std::size_t index) const;
  const Parameter* find(std::string_view name) const;
};

/// Error code "signature_malformed".
Result<Signature> parse_signature(std::string_view text);

}  // namespace cw
