// The shapes that a model's layers have on one tensor parallel rank, from its config.json.
#pragma once

#include <cstdint>

#include "base/json.h"
#include "base/result.h"

namespace cw::simulated {

struct ModelShape {
  enum class Attention { gqa, mla };
  Attention attention = Attention::gqa;
  std::int64_t layers = 32;
  std::int64_t hidden = 4096;
  std::int64_t qo_heads = 32;  ///< on one rank
  std::int64_t kv_heads = 8;   ///< on one rank; at least 1
  std::int64_t head_dim = 128;
  std::int64_t vocabulary = 128256;
  // MLA: head dims of the absorbed form are kv_lora_rank and qk_rope, of prefill qk_nope + qk_rope
  // and v.
  std::int64_t qk_nope = 128, qk_rope = 64, v_head_dim = 128, kv_lora_rank = 512;
  double sm_scale = 0;  ///< MLA only: what the engine gives to plan()
};

/// From Hugging Face's config.json. Error code "model_unsupported": the simulated engine knows GQA
/// and MLA.
Result<ModelShape> shape_from_config(const Json& config, std::int64_t tensor_parallel);

}  // namespace cw::simulated
