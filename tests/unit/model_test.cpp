#include "engine/model.h"

#include "engine/recipes.h"
#include "support/fixture.h"

namespace cw::testing {
namespace {

class ModelTest : public DatasetTest {
 protected:
  void SetUp() override {
    dataset_ = Dataset::open(trace()).value();
    recipes_ = Recipes::parse(std::string(built_in_recipes())).value();
  }
  // "num_qo_heads 28 for 32", or empty where the model calls it.
  std::string mismatch(const std::string& definition, const Json& config, Parallelism spread = {}) {
    const auto found = shape_mismatch(*dataset_.find(definition), config, spread, recipes_.shapes);
    return found ? fmt::format("{} {} for {}", found->axis, found->called, found->wanted) : "";
  }
  std::string of(const std::string& model, const std::string& definition, Parallelism spread = {}) {
    return mismatch(definition, recipes_.models.at(model).config, spread);
  }
  Dataset dataset_;
  Recipes recipes_;
};

TEST_F(ModelTest, HeadsAreDividedAmongRanks) {
  EXPECT_EQ(of("llama-3.1-70b", "gqa_paged_decode_h16_kv2_d128_ps1", {.tensor = 4}), "");
  EXPECT_EQ(of("llama-3.1-70b", "gqa_paged_decode_h16_kv2_d128_ps1", {.tensor = 8}),
            "num_qo_heads 8 for 16");
  EXPECT_EQ(of("llama-4-scout", "gqa_paged_decode_h5_kv1_d128_ps1", {.tensor = 8}), "");
  // No rank has less than one head of K and V.
  EXPECT_EQ(of("qwen3-235b-a22b", "gqa_paged_prefill_causal_h16_kv1_d128_ps64", {.tensor = 4}), "");
}

TEST_F(ModelTest, WhatAModelDoesNotHave) {
  EXPECT_EQ(of("qwen2.5-7b", "gqa_paged_decode_h32_kv8_d128_ps1"), "num_qo_heads 28 for 32");
  EXPECT_EQ(of("llama-3.1-8b", "rmsnorm_h128"), "hidden_size 4096 for 128");
  EXPECT_EQ(of("qwen2.5-7b", "gqa_paged_decode_h32_kv8_d128_ps1", {.tensor = 8}),
            "num_qo_heads 3.5 for 32");
  EXPECT_EQ(of("llama-3.1-8b", "mla_paged_decode_h16_ckv512_kpe64_ps1"), " 0 for 0")
      << "no such layers";
  EXPECT_EQ(of("minimax-m2", "gemm_n3072_k6144").substr(0, 2), "N ") << "quantized";
  EXPECT_EQ(of("qwen3-8b", "rmsnorm_h128"), "") << "Q and K are normalised";
  EXPECT_EQ(of("deepseek-v3", "rmsnorm_h1536"), "") << "the latent query";
  EXPECT_EQ(of("llama-3.1-8b", "gemm_n28672_k4096"), "") << "gate and up in one";
  EXPECT_EQ(of("gemma-3-27b", "gemm_n21504_k5376").substr(0, 2), "N ") << "neither alone";
  EXPECT_EQ(of("deepseek-v3", "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048",
               {.tensor = 8, .expert = 8}),
            "");
  EXPECT_EQ(of("deepseek-v3", "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048",
               {.tensor = 8}),
            "num_local_experts 256 for 32");
}

TEST_F(ModelTest, AConfigOfAnotherKindSaysNothing) {
  EXPECT_EQ(mismatch("gqa_paged_decode_h32_kv8_d128_ps1", Json::object()), "");
  EXPECT_EQ(mismatch("gqa_paged_decode_h32_kv8_d128_ps1", nullptr), "");
  EXPECT_EQ(mismatch("gqa_paged_decode_h32_kv8_d128_ps1",
                     {{"num_attention_heads", "many"}, {"head_dim", 128}}),
            "");
  // Models of several kinds of input keep their language model's apart.
  EXPECT_EQ(mismatch("gqa_paged_decode_h32_kv8_d128_ps1", {{"text_config",
                                                            {{"hidden_size", 3584},
                                                             {"num_attention_heads", 28},
                                                             {"num_key_value_heads", 4},
                                                             {"head_dim", 128}}}}),
            "num_qo_heads 28 for 32");
}

// Against the sizes of the files on the Hub, in GB.
TEST_F(ModelTest, WeightsAreAboutAsLargeAsTheirFiles) {
  const std::map<std::string, double> files{
      {"llama-3.1-8b", 16.1},     {"llama-3.1-70b", 141.1}, {"llama-3.2-3b", 6.4},
      {"qwen3-8b", 16.4},         {"qwen3-30b-a3b", 61.1},  {"qwen3-235b-a22b", 470.2},
      {"qwen2.5-72b", 145.4},     {"mixtral-8x22b", 281.2}, {"phi-4-14b", 29.3},
      {"deepseek-v2-lite", 31.4}, {"llama-4-scout", 217.3}};
  for (const auto& [name, size] : files) {
    const auto bytes = weight_bytes(recipes_.models.at(name).config);
    ASSERT_TRUE(bytes) << name;
    EXPECT_NEAR(*bytes / 1e9, size, 0.03 * size) << name;
  }
  // Nemotron-H-56B: layers of state spaces, attention and MLPs, by a pattern.
  Json hybrid{{"hidden_size", 8192},
              {"num_hidden_layers", 118},
              {"num_attention_heads", 64},
              {"vocab_size", 131072},
              {"head_dim", 128},
              {"num_key_value_heads", 8},
              {"mamba_num_heads", 256},
              {"mamba_head_dim", 64},
              {"intermediate_size", 32768},
              {"ssm_state_size", 256},
              {"n_groups", 8}};
  EXPECT_FALSE(weight_bytes(hybrid));
  std::string pattern;
  for (int i = 0; i < 54; ++i) pattern += "M-";
  hybrid["hybrid_override_pattern"] = pattern + std::string(10, '*');
  EXPECT_NEAR(*weight_bytes(hybrid) / 1e9, 113, 3);
  hybrid["hybrid_override_pattern"] = pattern + "E";
  EXPECT_FALSE(weight_bytes(hybrid));
  // Of weights whose type is not known, and of what is no model, nothing is said.
  Json llama = recipes_.models.at("llama-3.1-8b").config;
  llama["quantization_config"] = {{"quant_method", "awq"}, {"bits", 4}};
  EXPECT_FALSE(weight_bytes(llama));
  llama["quantization_config"] = {{"quant_method", "modelopt"}, {"quant_algo", "NVFP4"}};
  EXPECT_NEAR(*weight_bytes(llama) / 1e9, 4, 0.1);
  llama["hidden_size"] = 1e200;
  EXPECT_FALSE(weight_bytes(llama));
  EXPECT_FALSE(weight_bytes(Json::object()));
  EXPECT_FALSE(weight_bytes(nullptr));
}

TEST_F(ModelTest, WhatATokenTakes) {
  const auto bytes = [this](const char* model, int tensor_parallel) {
    return kv_bytes_per_token(recipes_.models.at(model).config, tensor_parallel);
  };
  EXPECT_EQ(bytes("llama-3.1-8b", 1), 32 * 2 * 8 * 128 * 2);
  EXPECT_EQ(bytes("llama-3.1-70b", 4), 80 * 2 * 2 * 128 * 2);
  EXPECT_EQ(bytes("qwen3-235b-a22b", 8), 94 * 2 * 1 * 128 * 2) << "no less than a head";
  EXPECT_EQ(bytes("deepseek-v3", 8), 61 * (512 + 64) * 2) << "whole on every GPU";
  EXPECT_FALSE(bytes("qwen3-next-80b-a3b", 1)) << "three quarters of its layers keep a state";
  EXPECT_FALSE(kv_bytes_per_token(nullptr, 1));
  EXPECT_FALSE(kv_bytes_per_token(Json::object(), 1));
  EXPECT_FALSE(kv_bytes_per_token({{"num_hidden_layers", -1}, {"hidden_size", 8}}, 1));
}

TEST_F(ModelTest, ConfigsAreFoundWhereTheyAre) {
  const std::filesystem::path folder = trace().parent_path() / "model";
  const std::filesystem::path cache = trace().parent_path() / "hub";
  const auto snapshot = cache / "models--org--name/snapshots/abc";
  std::filesystem::create_directories(folder);
  std::filesystem::create_directories(snapshot);
  write_text(folder / "config.json", R"({"hidden_size": 1})");
  write_text(snapshot / "config.json", R"({"hidden_size": 2})");
  ::setenv("HF_HUB_CACHE", cache.c_str(), 1);
  EXPECT_EQ(find_model_config(folder.string()), Json({{"hidden_size", 1}}));
  EXPECT_EQ(find_model_config("org/name"), Json({{"hidden_size", 2}}));
  EXPECT_TRUE(find_model_config("org/other").is_null());
  write_text(folder / "config.json", "no JSON");
  EXPECT_TRUE(find_model_config(folder.string()).is_null());
  EXPECT_TRUE(find_model_config("").is_null());
  ::unsetenv("HF_HUB_CACHE");
}

}  // namespace
}  // namespace cw::testing
