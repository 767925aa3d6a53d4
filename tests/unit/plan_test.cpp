#include "engine/plan.h"

#include "bind/needs.h"
#include "capture/level10/method.h"
#include "support/fixture.h"

namespace cw::testing {

class PlanTest : public DatasetTest {
 protected:
  void SetUp() override {
    dataset_ = Dataset::open(trace()).value();
    recipes_ = Recipes::parse(std::string(built_in_recipes())).value();
  }
  EnginePlan plan(const std::vector<std::string>& names,
                  EnginePlanOptions options = {.capture = &level10::dump_method()}) {
    std::vector<const Definition*> definitions;
    for (const std::string& name : names) definitions.push_back(dataset_.find(name));
    return plan_runs(definitions, bindings_, recipes_, options).value();
  }
  Dataset dataset_;
  Recipes recipes_;
};

using Words = std::vector<std::string>;

TEST_F(PlanTest, DefinitionsOfOneModelAndProfileShareARun) {
  const auto made =
      plan({"gqa_paged_decode_h32_kv8_d128_ps1", "gqa_ragged_prefill_causal_h32_kv8_d128",
            "rmsnorm_h4096", "gqa_paged_prefill_causal_h32_kv8_d128_ps1"});
  ASSERT_EQ(made.runs.size(), 2u);
  EXPECT_EQ(made.runs[0].model_path, "meta-llama/Llama-3.1-8B-Instruct");
  EXPECT_EQ(made.runs[0].definitions.size(), 3u);
  EXPECT_EQ(made.runs[0].tensor_parallel, 1);
  EXPECT_EQ(made.runs[1].command.environment[0].first, "SGLANG_FLASHINFER_USE_PAGED");
}

TEST_F(PlanTest, TheTagSaysHowManyRanks) {
  const auto made = plan({"mla_paged_decode_h16_ckv512_kpe64_ps1"});
  ASSERT_EQ(made.runs.size(), 1u);
  EXPECT_EQ(made.runs[0].model_path, "deepseek-ai/DeepSeek-V3");
  EXPECT_EQ(made.runs[0].tensor_parallel, 8);
}

TEST_F(PlanTest, WhatNoEngineReachesIsSaidWithWhatWould) {
  const auto made = plan({"gqa_paged_decode_h32_kv8_d128_ps64"});
  EXPECT_TRUE(made.runs.empty());
  ASSERT_EQ(made.unreachable.size(), 1u);
  EXPECT_NE(made.unreachable[0].why.find("page size 1"), std::string::npos);
  EXPECT_NE(made.unreachable[0].reach.find("vllm"), std::string::npos);
  const auto vllm = plan({"gqa_paged_decode_h32_kv8_d128_ps64"}, {.engine = "vllm"});
  ASSERT_EQ(vllm.runs.size(), 1u);
  EXPECT_EQ(vllm.runs[0].flags[0].alternatives[0], (Words{"--block-size", "64"}));
}

// An engine has one page size, where it honours the flag at all.
TEST_F(PlanTest, PageSizesThatTheEngineHonoursGetRunsOfTheirOwn) {
  Definition decode16 = *dataset_.find("gqa_paged_decode_h32_kv8_d128_ps64");
  decode16.name = "decode16";
  for (Axis& axis : decode16.axes)
    if (axis.name == "page_size") axis.constant = 16;
  dataset_.definitions.push_back(decode16);
  const auto vllm = plan({"gqa_paged_decode_h32_kv8_d128_ps64", "gqa_paged_decode_h32_kv8_d128_ps1",
                          "gqa_paged_prefill_causal_h32_kv8_d128_ps64", decode16.name},
                         {.engine = "vllm"});
  ASSERT_EQ(vllm.runs.size(), 2u);
  EXPECT_EQ(vllm.runs[0].definitions.size(), 2u);
  EXPECT_EQ(vllm.runs[1].flags[0].alternatives[0], (Words{"--block-size", "16"}));
  ASSERT_EQ(vllm.unreachable.size(), 1u);
  EXPECT_NE(vllm.unreachable[0].why.find("16, 32 or 64"), std::string::npos);
}

// Whichever of its functions an engine decodes with, one run collects them.
TEST_F(PlanTest, AllThatTheEngineMayCallSharesARun) {
  const auto made = plan({"gqa_paged_decode_h32_kv8_d128_ps64"}, {.engine = "vllm"});
  ASSERT_EQ(made.runs.size(), 1u);
  std::set<std::string> functions;
  for (const Binding* binding : made.runs[0].bindings) functions.insert(binding->function);
  EXPECT_EQ(functions, (std::set<std::string>{"BatchDecodeWithPagedKVCacheWrapper.run",
                                              "trtllm_batch_decode_with_kv_cache",
                                              "xqa_batch_decode_with_kv_cache"}));
}

TEST_F(PlanTest, ComputeCapabilityCounts) {
  const std::string moe = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048";
  EXPECT_EQ(plan({moe}, {.compute_capability = 90}).unreachable.size(), 1u);
  EXPECT_EQ(plan({moe}, {.compute_capability = 100}).runs.size(), 1u);
}

// Every definition of the dataset has a stage or a reason.
TEST_F(PlanTest, EveryDefinitionIsPlannedOrExplained) {
  std::vector<std::string> names;
  for (const Definition& definition : dataset_.definitions) names.push_back(definition.name);
  for (const char* engine : {"sglang", "simulated", "vllm"}) {
    const auto made = plan(names, {.engine = engine});
    std::size_t planned = made.unreachable.size();
    for (const EngineRun& run : made.runs) planned += run.definitions.size();
    EXPECT_EQ(planned, names.size());
    for (const Unreachable& item : made.unreachable)
      EXPECT_FALSE(item.why.empty()) << item.definition->name;
  }
}

TEST_F(PlanTest, TheFilterNamesFlashInfersOwnFunctions) {
  const auto made = plan({"gqa_paged_decode_h32_kv8_d128_ps1", "rmsnorm_h4096"});
  EXPECT_EQ(level10::dump_patterns(needs_of(bindings_, made.runs.at(0).bindings)),
            (Words{"*BatchDecodeWithPagedKVCacheWrapper.plan*",
                   "*BatchDecodeWithPagedKVCacheWrapper.run*", "rmsnorm"}));
}

TEST_F(PlanTest, AnUnknownEngineIsAnError) {
  const auto made = plan_runs({}, bindings_, recipes_, {.engine = "sglnag"});
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message.find("sglang"), std::string::npos);
}

TEST(Flags, AreFittedToWhatIsInstalled) {
  const std::vector<FlagChoice> choices{
      {{{"--a", "1"}}}, {{{"--new", "x"}, {"--old"}}}, {{{"--gone"}}}, {{{"--mine", "2"}}}};
  const auto fitted = fit_flags(
      choices, flags_in_help("usage: [--a A] [--old]\n  --mine MINE  text"), {"--mine=3"});
  EXPECT_EQ(fitted.words, (Words{"--a", "1", "--old"}));
  ASSERT_EQ(fitted.notes.size(), 2u);
  EXPECT_NE(fitted.notes[0].find("--old instead"), std::string::npos);
  EXPECT_NE(fitted.notes[1].find("--gone: not known"), std::string::npos);
}

TEST(RecipesFile, MistakesAreSaidWithTheirPlace) {
  EXPECT_EQ(Recipes::parse("format: 2").error().code, "recipes_malformed");
  const auto bad = Recipes::parse(
      "format: 1\nengines:\n  x:\n    command: [a]\n    stages: {s: {profile: none}}\n");
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("none"), std::string::npos);
  const auto misspelt = Recipes::parse(
      "format: 1\nengines:\n  x:\n    command: [a]\n    level10_flags: [b]\n    prot: 30000\n");
  ASSERT_FALSE(misspelt);
  EXPECT_NE(misspelt.error().message.find("line 6"), std::string::npos) << misspelt.error().message;
  EXPECT_NE(misspelt.error().message.find("unknown field 'prot'"), std::string::npos);
  for (const char* fields : {"models: {m: {path: p, tpp: 2}}", "modles: {}",
                             "engines: {x: {command: [a], stages: {s: {profiles: p}}}}",
                             "engines: {x: {command: [a], profiles: {p: {flag: [a]}}}}",
                             "engines: {x: {command: [a], flags: [{all: [a]}]}}"})
    EXPECT_FALSE(Recipes::parse(fmt::format("format: 1\n{}\n", fields))) << fields;
}

}  // namespace cw::testing
