// Calls that have no place in the dataset, and the forms in which engines make those that do.
#include "bind/binder.h"

#include "dataset/validation.h"
#include "support/fixture.h"

namespace cw::testing {
namespace {

constexpr const char* decode64 = "gqa_paged_decode_h32_kv8_d128_ps64";
constexpr const char* prefill = "gqa_paged_prefill_causal_h32_kv8_d128_ps1";
constexpr const char* ragged = "gqa_ragged_prefill_causal_h32_kv8_d128";

class BinderTest : public DatasetTest {
 protected:
  // A decode of one sequence with additions to its plan and run.
  SanitizeOutcome decode_with(const std::vector<std::pair<std::string, DumpValue>>& plan,
                              const std::vector<std::pair<std::string, DumpValue>>& run) {
    DumpCall planned = decode_plan(0xa, {0, 2}, {3, 4});
    planned.arguments.insert(planned.arguments.end(), plan.begin(), plan.end());
    writer_.write(planned);
    writer_.tick();
    DumpCall made = decode_run(0xa, 1);
    for (const auto& [key, value] : run) {
      std::erase_if(made.arguments,
                    [&key = key](const auto& argument) { return argument.first == key; });
      made.arguments.emplace_back(key, value);
    }
    writer_.write(made);
    return sanitize_dumps();
  }
  void expect_rejected(const SanitizeOutcome& outcome, const std::string& reason) {
    EXPECT_EQ(count(outcome, reason), 1u) << reason;
    EXPECT_TRUE(workloads(decode).empty());
  }
  DumpWriter writer_{dumps(), 77};
};

TEST_F(BinderTest, ASlidingWindow) {
  expect_rejected(decode_with({{"kwarg_window_left", DumpLiteral{"0"}}}, {}), "sliding_window");
}
TEST_F(BinderTest, AWindowInAPositionalArgument) {
  expect_rejected(
      decode_with({{"arg_8", DumpLiteral{"\"NONE\""}}, {"arg_9", DumpLiteral{"127"}}}, {}),
      "sliding_window");
}
TEST_F(BinderTest, ALogitsSoftCap) {
  expect_rejected(decode_with({{"kwarg_logits_soft_cap", DumpLiteral{"30.0"}}}, {}),
                  "logits_soft_cap");
}
TEST_F(BinderTest, AttentionSinks) {
  expect_rejected(decode_with({}, {{"kwarg_sinks", DumpTensor{DType::float32, {32}}}}),
                  "attention_sinks");
}
TEST_F(BinderTest, AValueScale) {
  expect_rejected(decode_with({}, {{"kwarg_v_scale", DumpLiteral{"0.5"}}}), "value_scale");
}
TEST_F(BinderTest, RotaryEncodingInside) {
  expect_rejected(decode_with({{"kwarg_pos_encoding_mode", DumpLiteral{"\"ROPE_LLAMA\""}}}, {}),
                  "position_encoding");
}
TEST_F(BinderTest, ScalesThatAreNoNumbers) {
  expect_rejected(decode_with({{"kwarg_sm_scale", DumpLiteral{"NaN"}}}, {}), "scalar_unknown");
}

TEST_F(BinderTest, Fp8KvForABfloat16Definition) {
  const DumpTensor half{DType::float8_e4m3fn, {64, 8, 128}};
  const auto outcome = decode_with({}, {{"arg_2", DumpPair{half, half}}});
  expect_rejected(outcome, "no_definition_fits");
  for (const auto& [key, item] : outcome.survey.tally.items())
    if (key.code == "no_definition_fits") {
      EXPECT_NE(item.message.find("another data type"), std::string::npos) << item.message;
    }
}

TEST_F(BinderTest, SeveralQueriesASequence) {
  writer_.write(decode_plan(0xa, {0, 2}, {3, 4}));
  writer_.tick();
  writer_.write(decode_run(0xa, 3));
  expect_rejected(sanitize_dumps(), "multi_token_decode");
}

TEST_F(BinderTest, KScaleMultipliesTheScale) {
  decode_with({{"kwarg_sm_scale", DumpLiteral{"0.5"}}}, {{"kwarg_k_scale", DumpLiteral{"0.5"}}});
  EXPECT_EQ(workloads(decode).at(0)["inputs"]["sm_scale"]["value"], 0.25);
}

TEST_F(BinderTest, TheDefaultScaleIsDerivedAndCounted) {
  const auto outcome = decode_with({}, {});
  EXPECT_DOUBLE_EQ(workloads(decode).at(0)["inputs"]["sm_scale"]["value"], 0.08838834764831845);
  const auto collection = nlohmann::json::parse(read_text(trace() / "collection.json"));
  EXPECT_EQ(collection["captures"][0]["definitions"][decode]["derived_calls"]["sm_scale"], 1);
  EXPECT_EQ(collection["captures"][0]["definitions"][decode]["workloads"][0]["derived"][0],
            "sm_scale");
}

TEST_F(BinderTest, PositionalScaleOfVllm) {
  const DumpLiteral null{"null"};
  decode_with({{"arg_8", DumpLiteral{"\"NONE\""}},
               {"arg_9", DumpLiteral{"-1"}},
               {"arg_10", null},
               {"arg_11", null},
               {"arg_12", null},
               {"arg_13", null},
               {"arg_14", null},
               {"arg_15", DumpLiteral{"0.25"}}},
              {});
  EXPECT_EQ(workloads(decode).at(0)["inputs"]["sm_scale"]["value"], 0.25);
}

TEST_F(BinderTest, OneTensorOfKAndVInEitherLayout) {
  const Heads paged{.page_size = 64, .pool = 4};
  for (const Shape& shape : {Shape{4, 2, 64, 8, 128}, Shape{4, 2, 8, 64, 128}}) {
    writer_.write(decode_plan(0xa, {0, 2}, {shape[2] == 64 ? 2 : 3, 1}, paged));
    writer_.tick();
    DumpCall run = decode_run(0xa, 1, paged);
    run.arguments[1] = {"arg_2", DumpTensor{DType::bfloat16, shape}};
    writer_.write(run);
    writer_.tick();
  }
  sanitize_dumps();
  EXPECT_EQ(workloads(decode64).size(), 2u);
}

TEST_F(BinderTest, TheConstructorsLayoutCounts) {
  writer_.write({std::string(decode_class) + ".__init__",
                 "flashinfer.decode",
                 "(self, float_workspace_buffer: torch.Tensor, kv_layout: str = 'NHD') -> None",
                 0xa,
                 {{"arg_1", DumpTensor{DType::uint8, {16}}}, {"arg_2", DumpLiteral{"\"HND\""}}}});
  writer_.tick();
  writer_.write(decode_plan(0xa, {0, 2}, {2, 3}, {.page_size = 64, .pool = 4}));
  writer_.tick();
  // Recorded as HND: [pages, heads, page, dim] with 64 heads would be another model's.
  DumpCall run = decode_run(0xa, 1, {.page_size = 64, .pool = 4});
  writer_.write(run);
  EXPECT_EQ(count(sanitize_dumps(), "no_definition_fits"), 1u);
}

TEST_F(BinderTest, LongIndexBuffersAreCutAtIndptr) {
  writer_.write(decode_plan(0xa, {0, 2}, {5, 6, 1'000'000, 1'000'000}));
  writer_.tick();
  writer_.write(decode_run(0xa, 1));
  sanitize_dumps();
  EXPECT_EQ(stored(workloads(decode).at(0), "kv_indices"), (Values{5, 6}));
  EXPECT_EQ(workloads(decode)[0]["axes"]["num_kv_indices"], 2);
}

TEST_F(BinderTest, IndexTensorsThatPointNowhere) {
  const auto rejected = [this](const Values& indptr, const Values& indices) {
    writer_.write(decode_plan(0xa, indptr, indices));
    writer_.tick();
    writer_.write(decode_run(0xa, static_cast<std::int64_t>(indptr.size()) - 1));
    writer_.tick();
  };
  rejected({0, 2}, {5, 1024});  // one past the pool
  rejected({0, 2}, {5, -1});
  rejected({0, 2, 1}, {3, 4});  // falls
  EXPECT_EQ(count(sanitize_dumps(), "structure"), 3u);
  EXPECT_TRUE(workloads(decode).empty());
}

// As vLLM plans the prefills of a batch: their part of the whole batch's indptr, and all of its
// pages.
TEST_F(BinderTest, AnIndptrThatIsCutOutOfAnother) {
  writer_.write(decode_plan(0xa, {2, 4, 7}, {90, 91, 3, 4, 5, 6, 7, 92}));
  writer_.tick();
  writer_.write(decode_run(0xa, 2));
  sanitize_dumps();
  ASSERT_EQ(workloads(decode).size(), 1u);
  EXPECT_EQ(stored(workloads(decode)[0], "kv_indptr"), (Values{0, 2, 5}));
  EXPECT_EQ(stored(workloads(decode)[0], "kv_indices"), (Values{3, 4, 5, 6, 7}));
  EXPECT_EQ(workloads(decode)[0]["axes"]["num_kv_indices"], 5);
}

// What a plan says in numbers counts as what its tensors show.
TEST_F(BinderTest, APlanThatSaysOtherHeadsThanTheCacheHas) {
  for (const Heads& said : {Heads{.qo = 32, .kv = 4}, Heads{.qo = 16}, Heads{}}) {
    DumpCall plan = decode_plan(0xa, {0, 2}, {3, 4}, said);
    writer_.write(plan);
    writer_.tick();
    writer_.write(decode_run(0xa, 1));
    writer_.tick();
  }
  EXPECT_EQ(count(sanitize_dumps(), "no_definition_fits"), 2u);
  EXPECT_EQ(workloads(decode).size(), 1u);
}

TEST_F(BinderTest, WhatIsNoTrafficByItsLooksIsCountedApart) {
  const auto step = [this](const Values& indptr) {
    Values indices(static_cast<std::size_t>(indptr.back()));
    for (std::size_t i = 0; i < indices.size(); ++i) indices[i] = static_cast<std::int64_t>(i);
    writer_.write(decode_plan(0xa, indptr, indices));
    writer_.tick();
    writer_.write(decode_run(0xa, static_cast<std::int64_t>(indptr.size()) - 1));
    writer_.tick();
  };
  step({0, 3, 6});  // as traffic might look, and made before a dummy that nothing else came before
  step({0, 1, 2, 3});  // one token each
  step({0, 5});        // traffic
  step({0, 5, 8});     // certainly traffic: of different lengths
  step({0, 1, 2});     // an idle engine's dummy
  step({0, 6, 9});
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "before_traffic"), 1u);
  EXPECT_EQ(count(outcome, "suspicious_dummy"), 2u);
  EXPECT_EQ(workloads(decode).size(), 3u);
  const auto all = sanitize_dumps({.includes_suspicious = true});
  EXPECT_EQ(workloads(decode).size(), 6u);
  std::size_t marked = 0;
  for (const DefinitionOutcome& definition : all.definitions)
    for (const KeptWorkload& workload : definition.kept) marked += workload.notes.is_suspicious;
  EXPECT_EQ(marked, 3u);
}

TEST_F(BinderTest, LastPagesMustHaveEntries) {
  const Heads paged{.page_size = 64, .pool = 4};
  for (const std::int64_t last : {0, 65, 64}) {
    DumpCall plan = decode_plan(0xa, {0, 2}, {2, 3}, paged);
    plan.arguments[2] = {"arg_3", int32_tensor({last})};
    writer_.write(plan);
    writer_.tick();
    writer_.write(decode_run(0xa, 1, paged));
    writer_.tick();
  }
  EXPECT_EQ(count(sanitize_dumps(), "structure"), 2u);
  EXPECT_EQ(workloads(decode64).size(), 1u);
}

// Rows that fill a CUDA graph's batch up have no page: what stands there of last pages is never
// looked at.
TEST_F(BinderTest, RowsWithoutAPageAreStoredAsTheyAre) {
  const Heads paged{.page_size = 64, .pool = 4};
  DumpCall plan = decode_plan(0xa, {0, 1, 3, 3, 3}, {2, 0, 1}, paged);
  plan.arguments[2] = {"arg_3", int32_tensor({17, 5, 0, 0})};
  writer_.write(plan);
  writer_.tick();
  writer_.write(decode_run(0xa, 4, paged));
  const auto outcome = sanitize_dumps();
  ASSERT_EQ(workloads(decode64).size(), 1u);
  EXPECT_EQ(stored(workloads(decode64)[0], "kv_last_page_len"), (Values{17, 5, 0, 0}));
  for (const DefinitionOutcome& definition : outcome.definitions)
    for (const KeptWorkload& workload : definition.kept) EXPECT_EQ(workload.notes.sequences, 2);
}

TEST_F(BinderTest, ThePrefixHalfOfAnExtendIsNoCausalPrefill) {
  writer_.write(ragged_plan(0xb, {0, 6}));
  writer_.tick();
  writer_.write(paged_plan(0xa, {0, 6}, {0, 9}, {1, 2, 3, 4, 5, 6, 7, 8, 9}));
  for (int layer = 0; layer < 2; ++layer) {
    writer_.tick();
    writer_.write(ragged_run(0xb, 6, true));
    writer_.tick();
    writer_.write(paged_run(0xa, 6, true));
  }
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "prefix_half"), 2u);
  EXPECT_TRUE(workloads(prefill).empty());
  EXPECT_EQ(workloads(ragged).size(), 1u);
}

TEST_F(BinderTest, ThePrefixHalfMayComeFirst) {
  writer_.write(ragged_plan(0xb, {0, 6}));
  writer_.tick();
  writer_.write(paged_plan(0xa, {0, 6}, {0, 9}, {1, 2, 3, 4, 5, 6, 7, 8, 9}));
  writer_.tick();
  writer_.write(paged_run(0xa, 6, true));
  writer_.tick();
  writer_.write(ragged_run(0xb, 6, true));
  EXPECT_EQ(count(sanitize_dumps(), "prefix_half"), 1u);
  EXPECT_TRUE(workloads(prefill).empty());
}

TEST_F(BinderTest, AHalfWithoutItsOtherHalfIsNotTakenAsCausal) {
  writer_.write(paged_plan(0xa, {0, 6}, {0, 9}, {1, 2, 3, 4, 5, 6, 7, 8, 9}));
  writer_.tick();
  writer_.write(paged_run(0xa, 6, true));
  EXPECT_EQ(count(sanitize_dumps(), "other_half_missing"), 1u);
  EXPECT_TRUE(workloads(prefill).empty());
}

TEST_F(BinderTest, APagedPrefillAloneIsCausalAndThatIsDerived) {
  writer_.write(paged_plan(0xa, {0, 6}, {0, 9}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0}));
  writer_.tick();
  writer_.write(paged_run(0xa, 6));
  const auto outcome = sanitize_dumps();
  ASSERT_EQ(workloads(prefill).size(), 1u);
  for (const DefinitionOutcome& definition : outcome.definitions)
    if (definition.definition->name == prefill) {
      EXPECT_EQ(definition.derived.at("causal"), 1u);
    }
}

TEST_F(BinderTest, GivenCausalIsNotDerivedAndFalseIsRefused) {
  for (const char* causal : {"true", "false"}) {
    DumpCall plan = paged_plan(0xa, {0, 6}, {0, 9}, {1, 2, 3, 4, 5, 6, 7, 8, 9});
    plan.arguments.emplace_back("kwarg_causal", DumpLiteral{causal});
    writer_.write(plan);
    writer_.tick();
    writer_.write(paged_run(0xa, 6));
    writer_.tick();
  }
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "non_causal"), 1u);
  EXPECT_EQ(workloads(prefill).size(), 1u);
  for (const DefinitionOutcome& definition : outcome.definitions)
    EXPECT_FALSE(definition.derived.contains("causal"));
}

TEST_F(BinderTest, CustomMasksAndMoreQueriesThanKeys) {
  DumpCall masked = paged_plan(0xa, {0, 2}, {0, 3}, {1, 2, 3});
  for (auto& [key, value] : masked.arguments)
    if (key == "kwarg_custom_mask") value = DumpTensor{DType::boolean, {6}};
  writer_.write(masked);
  writer_.tick();
  writer_.write(paged_run(0xa, 2));
  writer_.tick();
  writer_.write(paged_plan(0xa, {0, 4}, {0, 3}, {1, 2, 3}));
  writer_.tick();
  writer_.write(paged_run(0xa, 4));
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "custom_mask"), 1u);
  EXPECT_EQ(count(outcome, "structure"), 1u);
}

// What FlashInfer 0.7.2 added to the MLA wrapper.
TEST_F(BinderTest, MlaSinksAndScalesOfTheRun) {
  const std::pair<std::string, DumpValue> additions[] = {
      {"kwarg_sinks", DumpTensor{DType::float32, {16}}},
      {"kwarg_bmm1_scale", DumpLiteral{"0.3"}},
      {"kwarg_ckv_scale_arr", DumpTensor{DType::float32, {2}}}};
  writer_.write(mla_plan(0xa, {0, 1, 2}, {0, 2, 3}, {1, 2, 3}, {2, 1}, false, 0.1));
  for (const auto& addition : additions) {
    DumpCall run = mla_run(0xa, 2);
    run.arguments.push_back(addition);
    writer_.tick();
    writer_.write(run);
  }
  const auto outcome = sanitize_dumps();
  for (const char* reason : {"attention_sinks", "scales_at_run", "quantized_kv"})
    EXPECT_EQ(count(outcome, reason), 1u);
  EXPECT_TRUE(workloads("mla_paged_decode_h16_ckv512_kpe64_ps1").empty());
}

TEST_F(BinderTest, MlaLastPagesAreComputedFromLengths) {
  writer_.write(mla_plan(0xa, {0, 1, 2}, {0, 2, 3}, {1, 2, 3}, {65, 64}, false, 0.1, 64));
  writer_.tick();
  writer_.write(mla_run(0xa, 2, 16, 64));
  writer_.tick();
  writer_.write(mla_plan(0xa, {0, 1, 2}, {0, 2, 3}, {1, 2, 3}, {64, 64}, false, 0.1,
                         64));  // 64 tokens are no two pages
  writer_.tick();
  writer_.write(mla_run(0xa, 2, 16, 64));
  const auto outcome = sanitize_dumps();
  ASSERT_EQ(workloads("mla_paged_decode_h16_ckv512_kpe64_ps64").size(), 1u);
  EXPECT_EQ(stored(workloads("mla_paged_decode_h16_ckv512_kpe64_ps64")[0], "kv_last_page_len"),
            (Values{1, 64}));
  EXPECT_EQ(count(outcome, "structure"), 1u);
}

TEST_F(BinderTest, NormsOfThreeAxesAreFlattened) {
  DumpCall call = rmsnorm(1, 128);
  call.arguments[0] = {"arg_0", DumpTensor{DType::bfloat16, {6, 4, 128}}};
  writer_.write(call);
  sanitize_dumps();
  EXPECT_EQ(workloads("rmsnorm_h128").at(0)["axes"]["batch_size"], 24);
}

TEST_F(BinderTest, AnotherEpsilonThanTheReferences) {
  auto path = trace() / "definitions/rmsnorm/rmsnorm_h4096.json";
  auto definition = nlohmann::ordered_json::parse(read_text(path));
  definition["reference"] = "EPS = 1e-6\ndef run(hidden_states, weight): pass\n";
  write_text(path, definition.dump());
  writer_.write(rmsnorm(3));  // eps 1e-05
  EXPECT_EQ(count(sanitize_dumps(), "other_epsilon"), 1u);
  EXPECT_TRUE(workloads("rmsnorm_h4096").empty());
}

// FlashInfer's own dumper makes a parameter that may be left out an optional input.
TEST_F(BinderTest, OptionalInputsComeFromTheCallOrItsDefault) {
  const auto path = trace() / "definitions/gqa_paged" / (std::string(decode) + ".json");
  const auto original = nlohmann::ordered_json::parse(read_text(path));
  const auto with = [&](const std::string& name, const nlohmann::ordered_json& spec) {
    auto definition = original;
    definition["inputs"][name] = spec;
    write_text(path, definition.dump());
  };
  const nlohmann::ordered_json flag = {{"shape", nullptr}, {"dtype", "int32"}, {"optional", true}};
  with("return_lse", flag);
  decode_with({}, {});
  EXPECT_EQ(workloads(decode).at(0)["inputs"]["return_lse"],
            (nlohmann::json{{"type", "scalar"}, {"value", 0}}));
  const auto collection = nlohmann::json::parse(read_text(trace() / "collection.json"));
  EXPECT_EQ(collection["captures"][0]["definitions"][decode]["derived_calls"]["return_lse"], 1);

  std::filesystem::remove_all(trace() / "workloads");
  std::filesystem::remove_all(trace() / "blob");
  writer_.tick();
  decode_with({}, {{"kwarg_return_lse", DumpLiteral{"true"}}});
  ASSERT_EQ(workloads(decode).size(), 2u) << "the first call, and the second";
  std::set<int> values;
  for (const auto& workload : workloads(decode))
    values.insert(workload["inputs"]["return_lse"]["value"].get<int>());
  EXPECT_EQ(values, (std::set<int>{0, 1}));
  EXPECT_TRUE(validate(trace(), bindings_.index_checks())->is_valid());

  // A tensor that the call leaves out is random, and counted; what cannot be, is no workload.
  std::filesystem::remove_all(trace() / "workloads");
  std::filesystem::remove_all(trace() / "blob");
  with("sink", {{"shape", {"num_qo_heads"}}, {"dtype", "float32"}, {"optional", true}});
  sanitize_dumps();
  EXPECT_EQ(workloads(decode).at(0)["inputs"]["sink"]["type"], "random");
  EXPECT_TRUE(validate(trace(), bindings_.index_checks())->is_valid());
  std::filesystem::remove_all(trace() / "workloads");
  std::filesystem::remove_all(trace() / "blob");
  with("nobody_knows", flag);
  EXPECT_EQ(count(sanitize_dumps(), "optional_unknown"), 2u);
}

// FlashInfer 0.7.4's prefill of a gated delta net takes what the gates are made of.
TEST_F(BinderTest, GatedDeltaNetsWithTheirGatesInTheKernel) {
  constexpr const char* name = "gdn_prefill_qk4_v8_d128_k_last";
  const auto call = [](const char* in_kernel, const char* normalised) {
    const auto bf16 = [](Shape shape) { return DumpTensor{DType::bfloat16, std::move(shape)}; };
    return DumpCall{
        .function = "chunk_gated_delta_rule",
        .module = "flashinfer.gdn_prefill",
        .signature =
            "(q, k, v, g=None, beta=None, scale=None, initial_state=None, "
            "output_final_state=False, cu_seqlens=None, use_qk_l2norm_in_kernel=False, *, "
            "use_gate_in_kernel=False, A_log=None, dt_bias=None, beta_is_logit=False)",
        .arguments = {{"arg_0", bf16({5, 4, 128})},
                      {"arg_1", bf16({5, 4, 128})},
                      {"arg_2", bf16({5, 8, 128})},
                      {"arg_3", bf16({5, 8})},
                      {"arg_4", bf16({5, 8})},
                      {"kwarg_initial_state", DumpTensor{DType::float32, {2, 8, 128, 128}}},
                      {"kwarg_cu_seqlens", int32_tensor({0, 2, 5})},
                      {"kwarg_use_qk_l2norm_in_kernel", DumpLiteral{normalised}},
                      {"kwarg_use_gate_in_kernel", DumpLiteral{in_kernel}},
                      {"kwarg_beta_is_logit", DumpLiteral{in_kernel}},
                      {"kwarg_A_log", DumpTensor{DType::float32, {8}}},
                      {"kwarg_dt_bias", DumpTensor{DType::float32, {8}}}}};
  };
  for (const auto& [in_kernel, normalised] :
       {std::pair("true", "false"), std::pair("false", "false"), std::pair("true", "true")}) {
    writer_.write(call(in_kernel, normalised));
    writer_.tick();
  }
  const auto outcome = sanitize_dumps();
  ASSERT_EQ(workloads(name).size(), 1u);
  EXPECT_EQ(workloads(name)[0]["axes"],
            (nlohmann::json{{"total_seq_len", 5}, {"num_seqs", 2}, {"len_cu_seqlens", 3}}));
  EXPECT_EQ(stored(workloads(name)[0], "cu_seqlens"), (Values{0, 2, 5}));
  EXPECT_EQ(count(outcome, "gates_computed"), 1u);
  EXPECT_EQ(count(outcome, "normalised"), 1u);
}

// FlashInfer dumps a method under the class of its object.
TEST_F(BinderTest, ASubclassOfAWrapper) {
  for (DumpCall call : {decode_plan(0xa, {0, 2}, {3, 4}), decode_run(0xa, 1)}) {
    call.function = "CUDAGraph" + call.function;
    writer_.write(call);
    writer_.tick();
  }
  sanitize_dumps();
  EXPECT_EQ(workloads(decode).size(), 1u);
}

TEST_F(BinderTest, ScalarSamplingParametersAreSpread) {
  DumpCall call = sampling({1, 2, 3}, {0.5f, 0.5f, 0.5f});
  call.arguments[1] = {"arg_1", DumpLiteral{"40"}};
  call.arguments[2] = {"arg_2", DumpLiteral{"0.5"}};
  writer_.write(call);
  sanitize_dumps();
  EXPECT_EQ(stored(workloads("top_k_top_p_sampling_from_probs_v128256").at(0), "top_k"),
            (Values{40, 40, 40}));
}

TEST_F(BinderTest, ABombOfAShapeCostsOnlyItsCall) {
  DumpCall call = sampling({1}, {0.5f});
  call.arguments[0] = {"arg_0", DumpTensor{DType::float32, {std::int64_t{1} << 40, 0}}};
  call.arguments[1] = {"arg_1", DumpLiteral{"40"}};
  writer_.write(call);
  writer_.write(rmsnorm(3));
  sanitize_dumps();
  EXPECT_EQ(workloads("rmsnorm_h4096").size(), 1u);
  EXPECT_TRUE(workloads("top_k_top_p_sampling_from_probs_v128256").empty());
}

TEST_F(BinderTest, DefinitionsThatContradictTheApiAreRefusedWithTheAxis) {
  // kv_last_page_len has one entry a sequence; this definition wants one more.
  const Heads heads{.qo = 16, .kv = 1, .page_size = 64, .pool = 8};
  writer_.write(paged_plan(0xa, {0, 1, 2}, {0, 1, 3}, {1, 2, 3}, heads));
  writer_.tick();
  writer_.write(paged_run(0xa, 2, false, heads));
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "axes_disagree"), 1u);
}

TEST_F(BinderTest, LayersOfAStepAreOneWorkloadSeenOften) {
  writer_.write(decode_plan(0xa, {0, 2}, {3, 4}));
  for (int layer = 0; layer < 32; ++layer) {
    writer_.tick();
    writer_.write(decode_run(0xa, 1));
  }
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(workloads(decode).size(), 1u);
  for (const DefinitionOutcome& definition : outcome.definitions)
    if (definition.definition->name == decode) {
      EXPECT_EQ(definition.kept.at(0).seen, 32u);
    }
}

// Calls with one key share what the first of them gave, so a key has all that the outcome depends
// on.
TEST(ShapeKey, HasWhatTellsCallsOfOnePlanApart) {
  const auto key_of = [](const std::function<void(Call&)>& change) {
    Call call;
    CallContent content{.function = "BatchMLAPagedAttentionWrapper.run"};
    content.signature = std::make_shared<const Signature>();
    call.content = share(std::move(content));
    change(call);
    CallInContext context;
    context.call = std::make_shared<const Call>(std::move(call));
    return shape_key(context);
  };
  const auto plain = key_of([](Call&) {});
  EXPECT_EQ(plain, key_of([](Call& call) { call.order = 7; }));
  EXPECT_NE(plain, key_of([](Call& call) { call.sequences = 23; }));
  EXPECT_NE(key_of([](Call& call) { call.sequences = 24; }),
            key_of([](Call& call) { call.sequences = 23; }));
  EXPECT_NE(plain, key_of([](Call& call) { call.is_nested = true; }));
}

}  // namespace
}  // namespace cw::testing
