// A kernel's definition, as flashinfer-trace stores it: definitions/{op_type}/{name}.json.
//
// The schema is flashinfer-bench's (flashinfer_bench/data/definition.py); what it rejects is
// rejected here, naming the file, the field and what was expected.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "definition/expression.h"
#include "tensor/dtype.h"

namespace cw {

struct Axis {
  std::string name;
  /// Nothing: a var axis, whose value is set by each workload.
  std::optional<std::int64_t> constant;
};

struct TensorSpec {
  std::string name;
  bool is_scalar = false;         ///< `"shape": null`
  std::vector<std::size_t> axes;  ///< indices into Definition::axes, outermost first
  DType dtype;
  bool optional = false;
};

struct Definition {
  std::string name;
  std::string op_type;
  std::vector<std::string> tags;
  std::vector<Axis> axes;
  std::vector<TensorSpec> inputs;  ///< in the kernel's order
  std::vector<TensorSpec> outputs;
  std::vector<Expression> constraints;
  std::string reference;  ///< Python source; only searched for constants, never run

  const Axis* axis(std::string_view axis_name) const;
  const TensorSpec* input(std::string_view input_name) const;

  /// Values of tags `key:value`, in order: tag_values("model").
  std::vector<std::string_view> tag_values(std::string_view key) const;
  /// Last dotted component of the `fi_api:` (or older `api:`) tags.
  std::vector<std::string_view> apis() const;
};

/// What a definition computes, without what is only for people (description, tags, reference):
/// equal text means equal meaning.
std::string meaning(const Definition& definition);

/// Parses one definition. Error code "definition_invalid"; messages begin with `where`.
Result<Definition> parse_definition(std::string_view json, std::string_view where);
Result<Definition> load_definition(const std::filesystem::path& path);

}  // namespace cw
