// What the Python scripts that this tool replaces got wrong, each fault in a test of its own. (Seen
// in flashinfer-bench's scripts/sanitize_dumps.py, with the truth at hand.)
#include "support/fixture.h"

namespace cw::testing {
namespace {

class Faults : public DatasetTest {
 protected:
  DumpWriter writer_{dumps(), 77};
};

TEST_F(Faults, ARunIsPairedWithTheLatestPlanOfTheProcess) {
  writer_.write(decode_plan(0xa, {0, 2}, {10, 11}));
  writer_.tick();
  writer_.write(decode_plan(0xb, {0, 3}, {20, 21, 22}));
  writer_.tick();
  writer_.write(decode_run(0xa, 1));
  writer_.tick();
  writer_.write(decode_run(0xb, 1));
  sanitize_dumps();
  const auto found = workloads(decode);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(stored(found[0], "kv_indices"), (Values{10, 11}));
  EXPECT_EQ(stored(found[1], "kv_indices"), (Values{20, 21, 22}));
}

TEST_F(Faults, PageSize64BecomesPageSize1) {
  const Heads paged{.page_size = 64, .pool = 8};
  writer_.write(decode_plan(0xa, {0, 2}, {3, 4}, paged));
  writer_.tick();
  writer_.write(decode_run(0xa, 1, paged));
  sanitize_dumps();
  EXPECT_TRUE(workloads(decode).empty());
  ASSERT_EQ(workloads("gqa_paged_decode_h32_kv8_d128_ps64").size(), 1u);
  EXPECT_EQ(stored(workloads("gqa_paged_decode_h32_kv8_d128_ps64")[0], "kv_last_page_len"),
            Values{1});
}

TEST_F(Faults, AnotherModelsHeadsBecomeThisOnes) {
  const Heads other{.qo = 16, .kv = 4};
  writer_.write(decode_plan(0xa, {0, 2}, {3, 4}, other));
  writer_.tick();
  writer_.write(decode_run(0xa, 1, other));
  const auto outcome = sanitize_dumps();
  EXPECT_TRUE(workloads(decode).empty());
  EXPECT_EQ(count(outcome, "no_definition_fits"), 1u);
}

TEST_F(Faults, AnMlaRunBecomesBothDecodeAndPrefill) {
  writer_.write(mla_plan(0xa, {0, 1, 2}, {0, 2, 5}, {1, 2, 3, 4, 5}, {2, 3}, false, 0.1352));
  writer_.tick();
  writer_.write(mla_run(0xa, 2));
  writer_.tick();
  writer_.write(mla_plan(0xa, {0, 2}, {0, 3}, {7, 8, 9}, {3}, true, 0.1352));
  writer_.tick();
  writer_.write(mla_run(0xa, 2));
  sanitize_dumps();
  EXPECT_EQ(workloads("mla_paged_decode_h16_ckv512_kpe64_ps1").size(), 1u);
  EXPECT_EQ(workloads("mla_paged_prefill_causal_h16_ckv512_kpe64_ps1").size(), 1u);
}

TEST_F(Faults, AnMlaScaleIsInvented) {
  writer_.write(mla_plan(0xa, {0, 1}, {0, 2}, {1, 2}, {2}, false, 0.0721687));
  writer_.tick();
  writer_.write(mla_run(0xa, 1));
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(workloads("mla_paged_decode_h16_ckv512_kpe64_ps1").at(0)["inputs"]["sm_scale"]["value"],
            0.0721687);
  for (const DefinitionOutcome& definition : outcome.definitions)
    EXPECT_TRUE(definition.derived.empty());
}

DumpCall moe_call(const char* routing = "2") {
  const auto zeros = [](DType dtype, Shape shape) { return DumpTensor{dtype, std::move(shape)}; };
  return {
      "trtllm_fp8_block_scale_moe",
      "flashinfer.fused_moe.core",
      "(routing_logits: torch.Tensor, routing_bias: Optional[torch.Tensor], hidden_states: "
      "torch.Tensor, hidden_states_scale: torch.Tensor, gemm1_weights: torch.Tensor, "
      "gemm1_weights_scale: torch.Tensor, gemm2_weights: torch.Tensor, gemm2_weights_scale: "
      "torch.Tensor, num_experts: int, top_k: int, n_group: Optional[int], topk_group: "
      "Optional[int], intermediate_size: int, local_expert_offset: int, local_num_experts: int, "
      "routed_scaling_factor: Optional[float], routing_method_type: int = 0) -> torch.Tensor",
      0,
      {{"kwarg_routing_logits", zeros(DType::float32, {3, 256})},
       {"kwarg_routing_bias", zeros(DType::bfloat16, {256})},
       {"kwarg_hidden_states", zeros(DType::float8_e4m3fn, {3, 7168})},
       {"kwarg_hidden_states_scale", zeros(DType::float32, {56, 3})},
       {"kwarg_gemm1_weights", zeros(DType::float8_e4m3fn, {32, 4096, 7168})},
       {"kwarg_gemm1_weights_scale", zeros(DType::float32, {32, 32, 56})},
       {"kwarg_gemm2_weights", zeros(DType::float8_e4m3fn, {32, 7168, 2048})},
       {"kwarg_gemm2_weights_scale", zeros(DType::float32, {32, 56, 16})},
       {"kwarg_num_experts", DumpLiteral{"256"}},
       {"kwarg_top_k", DumpLiteral{"8"}},
       {"kwarg_n_group", DumpLiteral{"8"}},
       {"kwarg_topk_group", DumpLiteral{"4"}},
       {"kwarg_intermediate_size", DumpLiteral{"2048"}},
       {"kwarg_local_expert_offset", DumpLiteral{"4"}},
       {"kwarg_local_num_experts", DumpLiteral{"32"}},
       {"kwarg_routed_scaling_factor", DumpLiteral{"2.5"}},
       {"kwarg_routing_method_type", DumpLiteral{routing}}}};
}
constexpr const char* moe = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048";

TEST_F(Faults, AnIntegerScalarIsWrittenAsAFloat) {
  writer_.write(moe_call());
  sanitize_dumps();
  ASSERT_EQ(workloads(moe).size(), 1u);
  EXPECT_EQ(workloads(moe)[0]["inputs"]["local_expert_offset"]["value"].dump(), "4");
  EXPECT_EQ(workloads(moe)[0]["inputs"]["routed_scaling_factor"]["value"].dump(), "2.5");
}

TEST_F(Faults, Fp8WeightsAreKeptAsValues) {
  writer_.write(moe_call());
  sanitize_dumps();
  const auto inputs = workloads(moe).at(0)["inputs"];
  for (const char* name :
       {"gemm1_weights", "gemm2_weights", "hidden_states", "gemm1_weights_scale"})
    EXPECT_EQ(inputs[name]["type"], "random") << name;
  for (const char* name : {"routing_logits", "routing_bias"})
    EXPECT_EQ(inputs[name]["type"], "safetensors") << name;
  for (const auto& [path, content] : tree(trace() / "blob"))
    EXPECT_LT(content.size(), 10'000u) << path;
}

TEST_F(Faults, AnotherRoutingMethodIsTakenForTheDefinitions) {
  writer_.write(moe_call("1"));
  EXPECT_EQ(count(sanitize_dumps(), "other_routing"), 1u);
  EXPECT_TRUE(workloads(moe).empty());
}

TEST_F(Faults, TheBatchOfAPage64PrefillIsWrong) {
  const Heads paged{.page_size = 64, .pool = 8};
  writer_.write(paged_plan(0xa, {0, 1, 2}, {0, 1, 3}, {1, 2, 3}, paged));
  writer_.tick();
  writer_.write(paged_run(0xa, 2, false, paged));
  sanitize_dumps();
  ASSERT_EQ(workloads("gqa_paged_prefill_causal_h32_kv8_d128_ps64").size(), 1u);
  EXPECT_EQ(workloads("gqa_paged_prefill_causal_h32_kv8_d128_ps64")[0]["axes"]["batch_size"], 2);
}

TEST_F(Faults, TopPIsRandom) {
  writer_.write(sampling({50, 1 << 30}, {0.9f, 1.0f}));
  sanitize_dumps();
  const auto inputs = workloads("top_k_top_p_sampling_from_probs_v128256").at(0)["inputs"];
  EXPECT_EQ(inputs["top_p"]["type"], "safetensors");
  EXPECT_EQ(inputs["probs"]["type"], "random");
  EXPECT_EQ(stored(workloads("top_k_top_p_sampling_from_probs_v128256")[0], "top_k"),
            (Values{50, 1 << 30}));
}

TEST_F(Faults, ASecondRunDoublesTheLines) {
  writer_.write(decode_plan(0xa, {0, 2}, {10, 11}));
  writer_.tick();
  writer_.write(decode_run(0xa, 1));
  writer_.write(rmsnorm(7));
  sanitize_dumps();
  const auto before = tree(trace());
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(tree(trace()), before);
  for (const DefinitionOutcome& definition : outcome.definitions) EXPECT_EQ(definition.added(), 0u);
}

TEST_F(Faults, OneTruncatedFileEndsTheRun) {
  const std::string damaged = writer_.write(rmsnorm(3));
  writer_.write(rmsnorm(4));
  std::filesystem::resize_file(dumps() / damaged / "inputs.safetensors", 100);
  const auto outcome = sanitize_dumps();
  ASSERT_EQ(workloads("rmsnorm_h4096").size(), 1u);
  EXPECT_EQ(workloads("rmsnorm_h4096")[0]["axes"]["batch_size"], 4);
  EXPECT_EQ(count(outcome, "safetensors_malformed"), 1u);
}

TEST_F(Faults, ACapturesDummyPlanIsTakenForTraffic) {
  writer_.write(decode_plan(0xa, {0, 2, 4}, {0, 0, 0, 0}));  // one page for all, lengths of 2
  writer_.tick();
  writer_.write(decode_run(0xa, 2));
  writer_.tick();
  DumpCall captured = decode_run(0xa, 2);
  captured.graph_capture = true;
  writer_.write(captured);
  writer_.tick();
  writer_.write(decode_plan(0xb, {0, 2, 4}, {5, 6, 7, 8}));
  writer_.tick();
  writer_.write(decode_run(0xb, 2));
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "captured_in_cuda_graph"), 1u);
  EXPECT_EQ(count(outcome, "capture_warmup"), 1u);
  EXPECT_EQ(workloads(decode).size(), 2u);
  const auto collection = nlohmann::json::parse(read_text(trace() / "collection.json"));
  int warmups = 0;
  for (const auto& workload : collection["captures"][0]["definitions"][decode]["workloads"])
    warmups += workload.value("capture_warmup", false);
  EXPECT_EQ(warmups, 1);
}

}  // namespace
}  // namespace cw::testing
