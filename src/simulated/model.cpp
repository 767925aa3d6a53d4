#include "simulated/model.h"

#include <cmath>

namespace cw::simulated {
namespace {

std::int64_t integer(const Json& config, const char* name, std::int64_t otherwise) {
  const auto found = config.find(name);
  return found != config.end() && found->is_number_integer() ? found->get<std::int64_t>()
                                                             : otherwise;
}

double real(const Json& config, const char* name, double otherwise) {
  const auto found = config.find(name);
  return found != config.end() && found->is_number() ? found->get<double>() : otherwise;
}

// DeepSeek's softmax scale: 1/sqrt(head dim), times the square of YaRN's attention factor
// 0.1 * mscale * ln(factor) + 1 (arXiv 2309.00071, section 3.4) where the rope is scaled.
double mla_scale(const Json& config, std::int64_t head_dim) {
  double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  const auto rope = config.find("rope_scaling");
  if (rope == config.end() || !rope->is_object()) return scale;
  const double factor = real(*rope, "factor", 1), mscale = real(*rope, "mscale_all_dim", 0);
  if (factor <= 1 || mscale == 0) return scale;
  const double attention = 0.1 * mscale * std::log(factor) + 1;
  return scale * attention * attention;
}

}  // namespace

Result<ModelShape> shape_from_config(const Json& config, std::int64_t tensor_parallel) {
  if (!config.is_object()) return fail("model_unsupported", "the model's config is not an object");
  ModelShape shape;

  const std::int64_t heads = integer(config, "num_attention_heads", 0);
  const std::int64_t kv_heads = integer(config, "num_key_value_heads", heads);
  shape.layers = integer(config, "num_hidden_layers", 0);
  shape.hidden = integer(config, "hidden_size", 0);
  shape.vocabulary = integer(config, "vocab_size", 0);
  if (heads <= 0 || kv_heads <= 0 || shape.layers <= 0 || shape.hidden <= 0 ||
      shape.vocabulary <= 0)
    return fail("model_unsupported",
                "the model's config lacks one of num_attention_heads, num_hidden_layers, "
                "hidden_size, vocab_size");

  // Heads are divided among the ranks.
  if (tensor_parallel < 1 || heads % tensor_parallel != 0)
    return fail("model_unsupported", "{} heads do not divide among {} tensor parallel ranks", heads,
                tensor_parallel);
  shape.qo_heads = heads / tensor_parallel;
  shape.kv_heads = std::max<std::int64_t>(1, kv_heads / tensor_parallel);
  shape.head_dim = integer(config, "head_dim", shape.hidden / heads);

  // MLA has one latent head, and its own dimensions.
  if (config.contains("kv_lora_rank")) {
    shape.attention = ModelShape::Attention::mla;
    shape.kv_lora_rank = integer(config, "kv_lora_rank", 512);
    shape.qk_nope = integer(config, "qk_nope_head_dim", 128);
    shape.qk_rope = integer(config, "qk_rope_head_dim", 64);
    shape.v_head_dim = integer(config, "v_head_dim", 128);
    shape.sm_scale = mla_scale(config, shape.qk_nope + shape.qk_rope);
    if (shape.kv_lora_rank != 512 || shape.qk_rope != 64)
      return fail("model_unsupported", "only MLA of rank 512 with 64 rope dimensions is simulated");
  }

  return shape;
}

}  // namespace cw::simulated
