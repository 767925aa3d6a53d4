#include "engine/model.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include <fcntl.h>

#include "base/file.h"

namespace cw {
namespace {

constexpr std::size_t max_config = 16 << 20;
constexpr double max_weights = 1e15;  ///< bytes; what claims more is no model

// The part that describes the language model: models with several kinds of input keep it apart.
const Json& language_part(const Json& config) {
  const auto text = config.find("text_config");
  return text != config.end() && text->is_object() ? *text : config;
}

Operand operand_of(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return value.get<std::string>();
  return {};
}

class ConfigResolver final : public NameResolver {
 public:
  ConfigResolver(const Json& config, const Parallelism& parallelism)
      : config_(language_part(config)),
        parallelism_(parallelism),
        quantization_(quantization_of(config)) {}

  Result<Operand> value_of(std::string_view name) const override {
    if (name == "tp") return Operand(std::int64_t{parallelism_.tensor});
    if (name == "ep") return Operand(std::int64_t{parallelism_.expert});
    if (name == "quantization") return quantization_.empty() ? Operand() : Operand(quantization_);
    const auto found = config_.find(std::string(name));
    return found == config_.end() ? Operand() : operand_of(*found);
  }

 private:
  const Json& config_;
  const Parallelism& parallelism_;
  const std::string quantization_;
};

// The extents of a rule that the definition fixes, each with what the model's calls have; nothing
// if the rule does not apply to the model.
std::optional<std::vector<ShapeMismatch>> compare(const ShapeRule& rule,
                                                  const Definition& definition,
                                                  const NameResolver& names) {
  if (rule.when) {
    const auto applies = rule.when->evaluate(names);
    if (!applies || !truth(*applies)) return {};
  }
  std::vector<ShapeMismatch> mismatches;
  for (const auto& [name, expression] : rule.axes) {
    const auto value = expression.evaluate(names);
    if (!value || is_none(*value)) return {};
    const Axis* axis = definition.axis(name);
    if (axis == nullptr || !axis->constant) continue;
    const auto extent = as_number(*value);
    if (!extent) return {};
    if (*extent != static_cast<double>(*axis->constant))
      mismatches.push_back({name, *axis->constant, *extent});
  }
  return mismatches;
}

// Numbers of a config.json.
class Sizes {
 public:
  explicit Sizes(const Json& model) : model_(model) {}

  double operator()(const char* name, double otherwise = 0) const {
    const auto found = model_.find(name);
    return found != model_.end() && found->is_number() ? found->get<double>() : otherwise;
  }
  /// The first that is there.
  double first_of(std::initializer_list<const char*> names) const {
    for (const char* name : names)
      if (const double value = (*this)(name); value > 0) return value;
    return 0.0;
  }
  bool is(std::string_view type) const { return text("model_type") == type; }
  std::string text(const char* name) const { return string_member(model_, name); }

  // Where a config leaves them out, these follow from others.
  double kv_heads() const { return (*this)("num_key_value_heads", (*this)("num_attention_heads")); }
  double head_dim() const {
    return (*this)("head_dim",
                   (*this)("hidden_size") / std::max((*this)("num_attention_heads"), 1.0));
  }

 private:
  const Json& model_;
};

// Weights of a layer's attention: latent, or with grouped queries.
double attention_weights(const Sizes& model) {
  const double hidden = model("hidden_size"), heads = model("num_attention_heads"),
               latent = model("kv_lora_rank");
  if (latent <= 0)
    return hidden * (heads + 2 * model.kv_heads()) * model.head_dim() +
           heads * model.head_dim() * hidden;

  const double nope = model("qk_nope_head_dim"), rope = model("qk_rope_head_dim"),
               value = model("v_head_dim"), query = model("q_lora_rank");
  const double queries =
      query > 0 ? hidden * query + query * heads * (nope + rope) : hidden * heads * (nope + rope);
  return queries + hidden * (latent + rope) + latent * heads * (nope + value) +
         heads * value * hidden;
}

// Weights of all layers of attention and MLPs, the latter of three matrices each; in mixtures, the
// first layers or every other one may be dense.
double layer_weights(const Sizes& model) {
  const double hidden = model("hidden_size"), layers = model("num_hidden_layers"),
               experts = model.first_of({"n_routed_experts", "num_local_experts", "num_experts"}),
               expert_width = model("moe_intermediate_size", model("intermediate_size")),
               dense_width = model("intermediate_size_mlp", model("intermediate_size"));
  // (Llama 4 always has one, and does not say so.)
  const double shared = model("n_shared_experts", model.is("llama4_text") ? 1 : 0) * expert_width +
                        model("shared_expert_intermediate_size");
  double mixed_layers = 0;
  if (experts > 0)
    mixed_layers = (layers - model("first_k_dense_replace")) /
                   std::max(model("interleave_moe_layer_step", 1), 1.0);
  return layers * attention_weights(model) + 3 * hidden *
                                                 (mixed_layers * (experts * expert_width + shared) +
                                                  (layers - mixed_layers) * dense_width);
}

// Of a model whose layers are one thing each, by its pattern: M a state space (Mamba 2), * an
// attention, - an MLP of two matrices. Nothing if it has others.
std::optional<double> hybrid_weights(const Sizes& model) {
  const std::string pattern = model.text("hybrid_override_pattern");
  const double hidden = model("hidden_size"), heads = model("mamba_num_heads"),
               inner = heads * model("mamba_head_dim"),
               state = model("n_groups") * model("ssm_state_size");
  double weights = 0;
  for (const char layer : pattern)
    if (layer == 'M')
      weights += hidden * (2 * inner + 2 * state + heads) + inner * hidden;
    else if (layer == '*')
      weights += attention_weights(model);
    else if (layer == '-')
      weights += 2 * hidden * model("intermediate_size");
    else
      return {};
  if (pattern.empty()) return {};
  return weights;
}

std::filesystem::path hub_cache() {
  const auto from = [](const char* name) {
    const char* value = std::getenv(name);
    return std::filesystem::path(value != nullptr ? value : "");
  };
  if (const auto cache = from("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const auto home = from("HF_HOME"); !home.empty()) return home / "hub";
  return from("HOME") / ".cache/huggingface/hub";
}

Json read_config(const std::filesystem::path& file) {
  const auto text = read_file(AT_FDCWD, file.string(), max_config);
  // Python wrote it: Nemotron-H's has an Infinity.
  auto config = text ? parse_json(without_python_numbers(*text)) : std::nullopt;
  return config && config->is_object() ? std::move(*config) : Json();
}

}  // namespace

std::optional<ShapeMismatch> shape_mismatch(const Definition& definition, const Json& config,
                                            const Parallelism& parallelism,
                                            const ShapeRules& rules) {
  const auto found = rules.find(definition.op_type);
  if (found == rules.end() || !config.is_object()) return {};
  const Json& model = language_part(config);
  if (!model.contains("hidden_size") || !model.contains("num_attention_heads")) return {};
  const ConfigResolver names(config, parallelism);
  std::optional<std::vector<ShapeMismatch>> closest;
  for (const ShapeRule& rule : found->second) {
    auto mismatches = compare(rule, definition, names);
    if (mismatches && (!closest || mismatches->size() < closest->size()))
      closest = std::move(mismatches);
  }
  if (!closest) return ShapeMismatch{};
  if (closest->empty()) return {};
  return closest->front();
}

std::optional<double> weight_bytes(const Json& config) {
  if (!config.is_object()) return {};
  const Sizes model(language_part(config));
  if (model("hidden_size") <= 0 || model("num_hidden_layers") <= 0 ||
      model("num_attention_heads") <= 0)
    return {};

  std::optional<double> layers = layer_weights(model);
  if (model("mamba_num_heads") > 0) layers = hybrid_weights(model);
  if (!layers) return {};
  const double tables = bool_member(language_part(config), "tie_word_embeddings") ? 1 : 2;

  const std::string quantization = quantization_of(config);
  const double bytes = quantization.empty()       ? 2.0
                       : quantization == "float8" ? 1.0
                       : quantization == "float4" ? 0.5
                                                  : 0.0;  // who knows
  const double all = (*layers + tables * model("vocab_size") * model("hidden_size")) * bytes;
  if (!std::isfinite(all) || all <= 0 || all > max_weights) return {};
  return all;
}

std::optional<double> kv_bytes_per_token(const Json& config, int tensor_parallel) {
  if (!config.is_object() || tensor_parallel < 1) return {};
  const Json& part = language_part(config);
  if (part.contains("linear_num_key_heads")) return {};
  const Sizes model(part);
  double layers = model("num_hidden_layers");
  if (model("mamba_num_heads") > 0)
    layers = static_cast<double>(std::ranges::count(model.text("hybrid_override_pattern"), '*'));

  // Latents are kept whole by every GPU, heads are shared out.
  constexpr double bytes = 2;
  const double latent = model("kv_lora_rank");
  const double entries =
      latent > 0 ? latent + model("qk_rope_head_dim")
                 : 2 * std::max(model.kv_heads() / tensor_parallel, 1.0) * model.head_dim();
  const double all = layers * entries * bytes;
  if (!std::isfinite(all) || all <= 0 || all > max_weights) return {};
  return all;
}

std::string quantization_of(const Json& config) {
  const auto found = config.find("quantization_config");
  if (found == config.end() || !found->is_object()) return {};
  // Containers of several types say which one in a member of their own.
  const std::string method = string_member(*found, "quant_method");
  const std::string type = method + " " + string_member(*found, "quant_algo");
  if (method == "compressed-tensors")
    return string_member(*found, "format") == "float-quantized" ? "float8" : method;
  for (const char* four : {"fp4", "FP4"})
    if (type.find(four) != std::string::npos) return "float4";
  for (const char* eight : {"fp8", "FP8", "float8"})
    if (type.find(eight) != std::string::npos) return "float8";
  return type.find("float4") != std::string::npos ? "float4" : method;
}

bool is_hybrid(const Json& config) {
  if (!config.is_object()) return false;
  const Json& model = language_part(config);
  return model.contains("linear_num_key_heads") || model.contains("mamba_num_heads");
}

Json find_model_config(const std::string& model) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (model.empty()) return {};
  if (fs::exists(fs::path(model) / "config.json", error))
    return read_config(fs::path(model) / "config.json");

  // models--ORGANIZATION--NAME/snapshots/REVISION/config.json
  std::string name = "models--" + model;
  for (std::size_t at = name.find('/'); at != std::string::npos; at = name.find('/', at))
    name.replace(at, 1, "--");
  fs::path newest;
  fs::file_time_type newest_time;
  for (fs::directory_iterator it(hub_cache() / name / "snapshots", error), end; !error && it != end;
       it.increment(error)) {
    std::error_code missing;
    const fs::path file = it->path() / "config.json";
    const auto time = fs::last_write_time(file, missing);
    if (missing || (!newest.empty() && time <= newest_time)) continue;
    newest = file;
    newest_time = time;
  }
  return newest.empty() ? Json() : read_config(newest);
}

}  // namespace cw
