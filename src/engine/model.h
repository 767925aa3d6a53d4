// What a model's config.json says about how its kernels are called, and how much memory it takes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "definition/definition.h"
#include "definition/expression.h"

namespace cw {

/// How a model is spread over GPUs.
struct Parallelism {
  int tensor = 1;
  int expert = 1;  ///< groups that the experts of a mixture are divided among
  bool operator==(const Parallelism&) const = default;
};

/// Extents that calls of an op type have together, as expressions over the members of config.json
/// (of its text_config, where it has one), `tp`, `ep`, and `quantization` (see quantization_of;
/// None if it is empty). Members that it lacks are None, and a rule with an extent that is None
/// does not apply.
struct ShapeRule {
  std::optional<Expression> when;
  std::vector<std::pair<std::string, Expression>> axes;
};
/// By op type: its calls follow one of these.
using ShapeRules = std::map<std::string, std::vector<ShapeRule>>;

/// A const axis in which a definition differs from a model's calls.
struct ShapeMismatch {
  std::string axis;  ///< empty: no rule applies, so that the model has no such layers
  std::int64_t wanted = 0;
  double called = 0;  ///< not whole where what is divided does not divide
};

/// Why the model does not call the definition, going by the rule that comes closest; nothing if it
/// does, if its op type has no rules, or if the config is not that of a transformer.
std::optional<ShapeMismatch> shape_mismatch(const Definition& definition, const Json& config,
                                            const Parallelism& parallelism,
                                            const ShapeRules& rules);

/// Of all weights together, about: embeddings, attention, MLPs and experts, without norms and
/// biases. Nothing if the config does not tell, or its weights are of a type that is not known.
std::optional<double> weight_bytes(const Json& config);

/// Of the KV cache that each of the GPUs keeps for a token, in 16 bits. Nothing if the config does
/// not tell, or some of its layers keep something else.
std::optional<double> kv_bytes_per_token(const Json& config, int tensor_parallel);

/// "float8", "float4", or another method's name; empty: none.
std::string quantization_of(const Json& config);

/// Whether some layers are something else than attention: linear attention, a state space model.
bool is_hybrid(const Json& config);

/// The config.json of a folder, or of the newest snapshot in Hugging Face's cache (HF_HUB_CACHE,
/// HF_HOME). Null if there is none that can be read; nothing is downloaded.
Json find_model_config(const std::string& model);

}  // namespace cw
