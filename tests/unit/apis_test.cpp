// A call of every API that the other tests do not make, in the form in which engines make it.
#include <fmt/ranges.h>

#include "support/fixture.h"

namespace cw::testing {
namespace {

using Arguments = std::vector<std::pair<std::string, DumpValue>>;

DumpTensor zeros(DType dtype, Shape shape) {
  return {dtype, std::move(shape)};
}
DumpTensor bf16(Shape shape) {
  return zeros(DType::bfloat16, std::move(shape));
}
DumpTensor f32(Shape shape) {
  return zeros(DType::float32, std::move(shape));
}
DumpLiteral literal(const char* text) {
  return {text};
}

class Apis : public DatasetTest {
 protected:
  // All arguments by keyword, as SGLang passes them.
  void call(const std::string& function, const std::string& module, const Arguments& arguments) {
    std::vector<std::string> names;
    DumpCall made{function, module, "", 0, {}};
    for (const auto& [name, value] : arguments) {
      names.push_back(name);
      made.arguments.emplace_back("kwarg_" + name, value);
    }
    made.signature = fmt::format("({})", fmt::join(names, ", "));
    writer_.write(made);
    writer_.tick();
  }
  DumpWriter writer_{dumps(), 77};
};

Arguments moe(std::int64_t experts, std::int64_t hidden, std::int64_t intermediate,
              const char* top_k, const char* routing, Arguments more) {
  Arguments arguments{{"routing_logits", bf16({3, experts})},
                      {"num_experts", literal(experts == 128 ? "128" : "16")},
                      {"local_num_experts", literal(experts == 128 ? "128" : "16")},
                      {"local_expert_offset", literal("0")},
                      {"top_k", literal(top_k)},
                      {"n_group", literal("null")},
                      {"topk_group", literal("null")},
                      {"intermediate_size", literal(intermediate == 768 ? "768" : "8192")},
                      {"routed_scaling_factor", literal("null")},
                      {"routing_method_type", literal(routing)}};
  (void)hidden;
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST_F(Apis, MoeRenormalised) {
  const Arguments weights{{"routing_bias", literal("null")},
                          {"hidden_states", zeros(DType::float8_e4m3fn, {3, 2048})},
                          {"hidden_states_scale", f32({16, 3})},
                          {"gemm1_weights", zeros(DType::float8_e4m3fn, {128, 1536, 2048})},
                          {"gemm1_weights_scale", f32({128, 12, 16})},
                          {"gemm2_weights", zeros(DType::float8_e4m3fn, {128, 2048, 768})},
                          {"gemm2_weights_scale", f32({128, 16, 6})}};
  call("trtllm_fp8_block_scale_moe", "flashinfer.fused_moe.core",
       moe(128, 2048, 768, "8", "1", weights));
  call("trtllm_fp8_block_scale_moe", "flashinfer.fused_moe.core",
       moe(128, 2048, 768, "10", "1", weights));  // another top k
  sanitize_dumps();
  EXPECT_EQ(workloads("moe_fp8_block_scale_renorm_topk8_e128_h2048_i768").size(), 1u);
}

TEST_F(Apis, MoePerTensorAndItsRouting) {
  const auto weights = [](const char* scales_on_input) {
    return Arguments{{"routing_bias", literal("null")},
                     {"hidden_states", zeros(DType::float8_e4m3fn, {3, 2048})},
                     {"gemm1_weights", zeros(DType::float8_e4m3fn, {128, 1536, 2048})},
                     {"output1_scales_scalar", f32({128})},
                     {"output1_scales_gate_scalar", f32({128})},
                     {"gemm2_weights", zeros(DType::float8_e4m3fn, {128, 2048, 768})},
                     {"output2_scales_scalar", f32({128})},
                     {"use_routing_scales_on_input", literal(scales_on_input)}};
  };
  call("trtllm_fp8_per_tensor_scale_moe", "flashinfer.fused_moe.core",
       moe(128, 2048, 768, "8", "1", weights("false")));
  call("trtllm_fp8_per_tensor_scale_moe", "flashinfer.fused_moe.core",
       moe(128, 2048, 768, "8", "1", weights("true")));
  EXPECT_EQ(count(sanitize_dumps(), "other_routing"), 1u);
  EXPECT_EQ(workloads("trtllm_fp8_per_tensor_scale_moe_topk8_e128_h2048_i768").size(), 1u);
}

Arguments fp4_weights(Arguments more = {}) {
  Arguments arguments{{"hidden_states", zeros(DType::uint8, {3, 1024})},
                      {"gemm1_weights", zeros(DType::uint8, {128, 1536, 1024})},
                      {"gemm2_weights", zeros(DType::uint8, {128, 2048, 384})}};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST_F(Apis, MoeFp4PackedWeights) {
  const auto normal = moe(128, 2048, 768, "8", "1", fp4_weights());
  call("trtllm_fp4_block_scale_moe", "flashinfer.fused_moe.core", normal);
  call("trtllm_fp4_block_scale_moe", "flashinfer.fused_moe.core",
       moe(128, 2048, 768, "8", "1", fp4_weights({{"gemm1_bias", f32({128, 1536})}})));
  call("trtllm_fp4_block_scale_moe", "flashinfer.fused_moe.core",
       moe(128, 2048, 768, "8", "1", fp4_weights({{"norm_topk_prob", literal("false")}})));
  call("trtllm_fp4_block_scale_moe", "flashinfer.fused_moe.core",
       moe(128, 2048, 768, "8", "1", fp4_weights({{"valid_hidden_size", literal("2000")}})));
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "padded_weights"), 1u);
  EXPECT_EQ(count(outcome, "other_activation"), 1u);
  EXPECT_EQ(count(outcome, "other_routing"), 1u);
  ASSERT_EQ(workloads("trtllm_fp4_block_scale_moe_topk8_e128_h2048_i768").size(), 1u);
  EXPECT_EQ(
      workloads(
          "trtllm_fp4_block_scale_moe_topk8_e128_h2048_i768")[0]["inputs"]["gemm1_weights"]["type"],
      "random");
}

TEST_F(Apis, MoeRoutedIdsAreUnpacked) {
  DumpTensor packed = int32_tensor({(5 << 16) | 0x3f80, (127 << 16) | 0x3f00, 1 << 16, 2 << 16,
                                    3 << 16, 4 << 16, 6 << 16, 7 << 16});
  packed.shape = {1, 8};
  Arguments arguments = moe(128, 2048, 768, "8", "1", fp4_weights({{"topk_ids", packed}}));
  arguments[10] = {"hidden_states", zeros(DType::uint8, {1, 1024})};
  arguments.erase(arguments.begin());
  call("trtllm_fp4_block_scale_routed_moe", "flashinfer.fused_moe.core", arguments);
  sanitize_dumps();
  const auto found = workloads("trtllm_fp4_block_scale_routed_moe_topk8_e128_h2048_i768");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(stored(found[0], "topk_ids"), (Values{5, 127, 1, 2, 3, 4, 6, 7}));
}

TEST_F(Apis, GdnDecodeAndMtp) {
  const Arguments common{{"A_log", f32({8})},
                         {"dt_bias", f32({8})},
                         {"scale", literal("null")},
                         {"use_qk_l2norm", literal("true")}};
  const auto sequence = [&common](std::int64_t length, Arguments more) {
    Arguments arguments{{"q", bf16({2, length, 4, 128})},
                        {"k", bf16({2, length, 4, 128})},
                        {"v", bf16({2, length, 8, 128})},
                        {"a", bf16({2, length, 8})},
                        {"b", bf16({2, length, 8})}};
    arguments.insert(arguments.end(), common.begin(), common.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  call("gated_delta_rule_decode_pretranspose", "flashinfer.gdn_decode",
       sequence(1, {{"state", f32({2, 8, 128, 128})}}));
  call("gated_delta_rule_decode_pretranspose", "flashinfer.gdn_decode",
       sequence(1, {{"state", literal("null")}, {"initial_state", f32({9, 8, 128, 128})}}));
  call("gated_delta_rule_mtp", "flashinfer.gdn_decode",
       sequence(3, {{"initial_state", f32({9, 8, 128, 128})},
                    {"initial_state_indices", int32_tensor({4, 8})}}));
  call("gated_delta_rule_mtp", "flashinfer.gdn_decode",
       sequence(3, {{"initial_state", f32({9, 8, 128, 128})},
                    {"initial_state_indices", int32_tensor({4, 9})}}));
  call("gated_delta_rule_decode_pretranspose", "flashinfer.gdn_decode",
       sequence(1, {{"state", f32({2, 8, 128, 128})}, {"disable_state_update", literal("true")}}));
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "other_update"), 1u);
  EXPECT_EQ(count(outcome, "state_pool"), 1u);
  EXPECT_EQ(count(outcome, "structure"), 1u);
  ASSERT_EQ(workloads("gdn_decode_qk4_v8_d128_k_last").size(), 1u);
  ASSERT_EQ(workloads("gdn_mtp_qk4_v8_d128_k_last").size(), 1u);
  EXPECT_EQ(stored(workloads("gdn_mtp_qk4_v8_d128_k_last")[0], "initial_state_indices"),
            (Values{4, 8}));
}

TEST_F(Apis, Mamba) {
  const auto arguments = [](const char* softplus) {
    return Arguments{{"state", bf16({9, 128, 64, 128})},
                     {"x", bf16({2, 128, 64})},
                     {"dt", bf16({2, 128, 64})},
                     {"A", f32({128, 64, 128})},
                     {"B", bf16({2, 8, 128})},
                     {"C", bf16({2, 8, 128})},
                     {"D", bf16({128, 64})},
                     {"dt_bias", bf16({128, 64})},
                     {"dt_softplus", literal(softplus)},
                     {"state_batch_indices", int32_tensor({3, -1})}};
  };
  call("selective_state_update", "flashinfer.mamba.selective_state_update", arguments("true"));
  call("selective_state_update", "flashinfer.mamba.selective_state_update", arguments("false"));
  EXPECT_EQ(count(sanitize_dumps(), "other_activation"), 1u);
  EXPECT_EQ(workloads("mamba_ssu_decode_h128_d64_s128_ng8").at(0)["axes"]["state_cache_size"], 9);
}

TEST_F(Apis, SparseMlaSplitsQueryAndCache) {
  DumpTensor indices = int32_tensor(Values(2048, 70));
  indices.shape = {1, 1, 2048};
  call("trtllm_batch_decode_with_kv_cache_mla", "flashinfer.mla._core",
       {{"query", bf16({1, 1, 16, 576})},
        {"kv_cache", bf16({4, 1, 64, 576})},
        {"kv_lora_rank", literal("512")},
        {"qk_rope_head_dim", literal("64")},
        {"block_tables", indices},
        {"sparse_mla_top_k", literal("2048")},
        {"bmm1_scale", literal("0.125")},
        {"bmm2_scale", literal("1.0")}});
  sanitize_dumps();
  const auto found = workloads("dsa_sparse_attention_h16_ckv512_kpe64_topk2048_ps64");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0]["axes"]["num_pages"], 2);  // token 70 lies in page 1
  EXPECT_EQ(found[0]["inputs"]["sm_scale"]["value"], 0.125);
}

TEST_F(Apis, Rope) {
  DumpTensor positions{DType::int64, {2}, from_integers(DType::int64, {2}, Values{0, 99}).bytes};
  const auto arguments = [&positions](const char* neox) {
    return Arguments{{"positions", positions},          {"query", bf16({2, 32 * 128})},
                     {"key", bf16({2, 8 * 128})},       {"head_size", literal("128")},
                     {"cos_sin_cache", f32({100, 64})}, {"is_neox", literal(neox)}};
  };
  call("apply_rope_with_cos_sin_cache_inplace", "flashinfer.rope", arguments("true"));
  call("apply_rope_with_cos_sin_cache_inplace", "flashinfer.rope", arguments("false"));
  EXPECT_EQ(count(sanitize_dumps(), "interleaved_rope"), 1u);
  EXPECT_EQ(workloads("rope_with_cos_sin_cache_neox_style_d128_rd64").at(0)["axes"]["num_qo_heads"],
            32);
}

// The definitions are of float16, and models of bfloat16: of a product, only the shape is kept.
TEST_F(Apis, Gemm) {
  const auto linear = [this](DType type, Shape input, Shape weight) {
    call("linear", "sglang.srt.layers.quantization.unquant",
         {{"input", zeros(type, std::move(input))},
          {"weight", zeros(type, std::move(weight))},
          {"bias", literal("null")}});
  };
  linear(DType::float16, {3, 2048}, {128, 2048});
  linear(DType::bfloat16, {2, 5, 2048}, {128, 2048});
  linear(DType::float32, {7, 2048}, {128, 2048});
  call("dual_gemm_swiglu", "sglang.kernels.ops.gemm",
       {{"x", bf16({4, 4096})}, {"gate_up_weight", bf16({28672, 4096})}});

  const SanitizeOutcome outcome = sanitize_dumps();
  std::map<std::string, std::set<std::int64_t>> rows;
  for (const char* name : {"gemm_n128_k2048", "gemm_n28672_k4096"})
    for (const auto& workload : workloads(name))
      rows[name].insert(workload["axes"]["M"].get<std::int64_t>());
  EXPECT_EQ(rows, (std::map<std::string, std::set<std::int64_t>>{{"gemm_n128_k2048", {3, 10}},
                                                                 {"gemm_n28672_k4096", {4}}}));
  EXPECT_EQ(count(outcome, "no_definition_fits"), 1u) << "float32";
  const auto router = std::ranges::find_if(outcome.definitions, [](const DefinitionOutcome& d) {
    return d.definition->name == "gemm_n128_k2048";
  });
  EXPECT_EQ(router->derived, (std::map<std::string, std::uint64_t>{{"dtype", 1}}));
}

TEST_F(Apis, SamplingInsideAnotherSamplingCall) {
  const DumpTensor p{DType::float32, {1}, std::string("\0\0\0\x3f", 4)};
  call("top_k_top_p_sampling_from_probs", "flashinfer.sampling",
       {{"probs", f32({1, 128256})},
        {"top_k", int32_tensor({40})},
        {"top_p", p},
        {"filter_apply_order", literal("\"top_k_first\"")}});
  call("top_p_sampling_from_probs", "flashinfer.sampling",
       {{"probs", f32({1, 128256})}, {"top_p", p}});
  call("top_p_sampling_from_probs", "flashinfer.sampling",
       {{"probs", f32({1, 128256})}, {"top_p", p}});  // by itself
  call("top_k_sampling_from_probs", "flashinfer.sampling",
       {{"probs", f32({1, 128256})}, {"top_k", literal("7")}});
  EXPECT_EQ(count(sanitize_dumps(), "nested_call"), 1u);
  EXPECT_EQ(workloads("top_p_sampling_from_probs_v128256").size(), 1u);
  EXPECT_EQ(stored(workloads("top_k_sampling_from_probs_v128256").at(0), "top_k"), Values{7});
}

TEST_F(Apis, MlaRaggedPlannedByKeywords) {
  for (const char* causal : {"true", "false"}) {
    DumpCall plan = ragged_plan(0xa, {0, 6});
    plan.arguments = {
        {"kwarg_qo_indptr", int32_tensor({0, 6})}, {"kwarg_kv_indptr", int32_tensor({0, 6})},
        {"kwarg_num_qo_heads", literal("16")},     {"kwarg_num_kv_heads", literal("16")},
        {"kwarg_head_dim_qk", literal("192")},     {"kwarg_head_dim_vo", literal("128")},
        {"kwarg_causal", literal(causal)}};
    writer_.write(plan);
    writer_.tick();
    DumpCall run = ragged_run(0xa, 6);
    run.arguments = {{"arg_1", bf16({6, 16, 192})},
                     {"arg_2", bf16({6, 16, 192})},
                     {"arg_3", bf16({6, 16, 128})}};
    writer_.write(run);
    writer_.tick();
  }
  EXPECT_EQ(count(sanitize_dumps(), "non_causal"), 1u);
  EXPECT_EQ(workloads("mla_ragged_prefill_causal_h16_qk192_vo128").size(), 1u);
}

}  // namespace
}  // namespace cw::testing
