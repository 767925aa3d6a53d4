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
  auto config = text ? parse_json(*text) : std::nullopt;
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
  const Json& model = language_part(config);
  const auto number = [&model](const char* name, double otherwise = 0) {
    const auto found = model.find(name);
    return found != model.end() && found->is_number() ? found->get<double>() : otherwise;
  };
  const auto first_of = [&number](std::initializer_list<const char*> names) {
    for (const char* name : names)
      if (const double value = number(name); value > 0) return value;
    return 0.0;
  };
  const double hidden = number("hidden_size"), layers = number("num_hidden_layers"),
               heads = number("num_attention_heads"), vocabulary = number("vocab_size");
  if (hidden <= 0 || layers <= 0 || heads <= 0) return {};

  // Attention: latent, or grouped queries.
  const double kv_heads = number("num_key_value_heads", heads),
               head_dim = number("head_dim", hidden / heads);
  double attention = hidden * (heads + 2 * kv_heads) * head_dim + heads * head_dim * hidden;
  if (const double latent = number("kv_lora_rank"); latent > 0) {
    const double nope = number("qk_nope_head_dim"), rope = number("qk_rope_head_dim"),
                 value = number("v_head_dim"), query = number("q_lora_rank");
    attention =
        query > 0 ? hidden * query + query * heads * (nope + rope) : hidden * heads * (nope + rope);
    attention +=
        hidden * (latent + rope) + latent * heads * (nope + value) + heads * value * hidden;
  }

  // MLPs, of three matrices each; in mixtures, the first layers or every other one may be dense.
  const double experts = first_of({"n_routed_experts", "num_local_experts", "num_experts"}),
               expert_width = number("moe_intermediate_size", number("intermediate_size")),
               dense_width = number("intermediate_size_mlp", number("intermediate_size"));
  const double shared =
      number("n_shared_experts") * expert_width + number("shared_expert_intermediate_size");
  double mixed_layers = 0;
  if (experts > 0)
    mixed_layers = (layers - number("first_k_dense_replace")) /
                   std::max(number("interleave_moe_layer_step", 1), 1.0);
  const double mlps =
      3 * hidden *
      (mixed_layers * (experts * expert_width + shared) + (layers - mixed_layers) * dense_width);

  const bool is_tied = bool_member(model, "tie_word_embeddings");
  const double weights = vocabulary * hidden * (is_tied ? 1 : 2) + layers * attention + mlps;
  const std::string quantization = quantization_of(config);
  const double bytes = quantization.empty()       ? 2.0
                       : quantization == "float8" ? 1.0
                       : quantization == "float4" ? 0.5
                                                  : 0.0;  // who knows
  const double all = weights * bytes;
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
