#include "engine/plan.h"

#include <fstream>

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

// Starting an engine takes minutes.
TEST_F(PlanTest, StartsAreShared) {
  const auto starts = [this](const std::vector<std::string>& names) {
    return plan(names).runs.size();
  };
  EXPECT_EQ(starts({"gqa_paged_decode_h32_kv8_d128_ps1",
                    "gqa_paged_prefill_causal_h32_kv8_d128_ps1", "rmsnorm_h4096"}),
            1u);
  // Not what a profile hides.
  EXPECT_EQ(starts({"gqa_paged_prefill_causal_h32_kv8_d128_ps1",
                    "gqa_ragged_prefill_causal_h32_kv8_d128"}),
            2u);
  // Profiles that do not touch each other are combined.
  const auto combined =
      plan({"gdn_decode_qk16_v32_d128_k_last", "rmsnorm_h2048"},
           {.model_name = "my/model", .tensor_parallel = 1, .capture = &level10::dump_method()});
  ASSERT_EQ(combined.runs.size(), 1u);
  EXPECT_EQ(combined.runs[0].profile, "gdn");

  // All of the dataset's.
  std::vector<std::string> paged, llama;
  for (const Definition& definition : dataset_.definitions) {
    if (definition.op_type == "gqa_paged") paged.push_back(definition.name);
    const auto models = definition.tag_values("model");
    if (!models.empty() && models[0] == "llama-3.1-8b") llama.push_back(definition.name);
  }
  EnginePlanOptions recorder;
  EXPECT_EQ(plan(llama, recorder).runs.size(), 2u);
  EXPECT_LE(starts(paged), 10u);
}

// "MODEL tp N: DEFINITION", or why not.
std::vector<std::string> lines_of(const EnginePlan& plan) {
  std::vector<std::string> lines;
  for (const EngineRun& run : plan.runs)
    for (const Definition* definition : run.definitions)
      lines.push_back(fmt::format(
          "{}: {}, tp {}{}, {}", definition->name, run.model_path, run.tensor_parallel,
          run.expert_parallel > 1 ? fmt::format(", ep {}", run.expert_parallel) : "", run.profile));
  for (const Unreachable& item : plan.unreachable)
    lines.push_back(fmt::format("{}: not reached: {}{}", item.definition->name, item.why,
                                item.reach.empty() ? "" : ". " + item.reach));
  std::ranges::sort(lines);
  return lines;
}

// The text in a file of tests/data; CW_WRITES_GOLDEN=1 writes it.
void expect_golden(const std::string& text, const std::string& name) {
  const auto file = std::filesystem::path(CW_TEST_DATA) / name;
  if (std::getenv("CW_WRITES_GOLDEN") != nullptr) write_text(file, text);
  EXPECT_EQ(text, read_text(file)) << "CW_WRITES_GOLDEN=1 writes it";
}

// Checked by hand, definition by definition.
TEST_F(PlanTest, WhatIsPlannedForTheWholeDataset) {
  std::vector<const Definition*> all;
  for (const Definition& definition : dataset_.definitions) all.push_back(&definition);
  for (const char* engine : {"sglang", "vllm"}) {
    std::string text;
    const auto made = plan_runs(all, bindings_, recipes_, {.engine = engine}).value();
    for (const std::string& line : lines_of(made)) text += line + "\n";
    expect_golden(text, fmt::format("plan-{}.txt", engine));
  }
}

// Folders with the config.json of models as it is on the Hub, but for token ids and long lists, by
// the model's name there.
class RealModels : public PlanTest {
 protected:
  std::map<std::string, std::filesystem::path> models() const {
    std::map<std::string, std::filesystem::path> folders;
    std::ifstream file(std::filesystem::path(CW_TEST_DATA) / "models.txt");
    for (std::string name, config; file >> name && std::getline(file, config);) {
      const auto folder = trace().parent_path() / "models" / name;
      std::filesystem::create_directories(folder);
      write_text(folder / "config.json", config);
      folders.emplace(name, folder);
    }
    return folders;
  }
};

// What each calls of the dataset on SGLang. Checked by hand.
TEST_F(RealModels, ArePlannedByTheirConfigs) {
  std::vector<const Definition*> all;
  for (const Definition& definition : dataset_.definitions) all.push_back(&definition);
  std::string text;
  for (const auto& [name, folder] : models()) {
    const auto made =
        plan_runs(all, bindings_, recipes_, {.model_name = folder.string(), .takes_all = true})
            .value();
    text += fmt::format("{}\n", name);
    for (const EngineRun& run : made.runs) {
      text += fmt::format(
          "  tp {}{}, {}{}\n", run.tensor_parallel,
          run.expert_parallel > 1 ? fmt::format(", ep {}", run.expert_parallel) : "", run.profile,
          run.weight_bytes ? fmt::format(", {:.0f} GB", *run.weight_bytes / 1e9) : "");
      for (const Definition* definition : run.definitions) text += "    " + definition->name + "\n";
    }
    for (const Unreachable& item : made.unreachable) {
      if (item.is_of_others) continue;
      std::string why = item.why;
      if (const auto at = why.find(folder.string()); at != std::string::npos)
        why.replace(at, folder.string().size(), "it");
      text += fmt::format("  not {}: {}\n", item.definition->name, why);
    }
  }
  expect_golden(text, "plan-models.txt");
}

// The table's models, where the same ones are among them.
TEST_F(RealModels, AreInTheTableAsTheyAre) {
  const auto folders = models();
  const std::map<std::string, std::string> same{{"llama-3.1-8b", "meta-llama/Meta-Llama-3.1-8B"},
                                                {"llama-3.1-70b", "meta-llama/Meta-Llama-3.1-70B"},
                                                {"deepseek-v3.2", "deepseek-ai/DeepSeek-V3.2"},
                                                {"minimax-m2", "MiniMaxAI/MiniMax-M2.5"},
                                                {"mixtral-8x22b", "mistralai/Mixtral-8x22B-v0.1"}};
  std::size_t compared = 0;
  for (const auto& [name, recipe] : recipes_.models) {
    const auto known = same.find(name);
    const auto found = folders.find(known == same.end() ? recipe.path : known->second);
    if (found == folders.end()) continue;
    const Json config = find_model_config(found->second.string());
    const Json& real = config.contains("text_config") ? config.at("text_config") : config;
    for (const auto& [member, value] : recipe.config.items()) {
      ++compared;
      if (member == "quantization_config" || member == "rope_scaling") {
        for (const auto& [inner, number] : value.items())
          EXPECT_EQ(number, real.at(member).at(inner)) << name << " " << member << " " << inner;
      } else if (member == "head_dim") {  // most leave it out where it follows from the others
        EXPECT_EQ(value, real.contains(member) ? real[member]
                                               : Json(real.at("hidden_size").get<int>() /
                                                      real.at("num_attention_heads").get<int>()))
            << name;
      } else if (member == "n_shared_experts" && real.value("model_type", "") == "llama4_text") {
        EXPECT_EQ(value, 1) << "the architecture says so";
      } else if (name == "mixtral-8x22b" && member == "vocab_size") {
        EXPECT_EQ(value, 32768) << "the instructed one has some more";
      } else {
        EXPECT_EQ(value, real.value(member, Json())) << name << " " << member;
      }
    }
  }
  EXPECT_GT(compared, 100u);
}

TEST_F(PlanTest, AModelIsAskedForWhatItCalls) {
  const EnginePlanOptions qwen{.model_name = "qwen2.5-7b"};
  std::vector<const Definition*> two{dataset_.find("gqa_paged_decode_h32_kv8_d128_ps1"),
                                     dataset_.find("top_k_top_p_sampling_from_probs_v152064")};
  const auto made = plan_runs(two, bindings_, recipes_, qwen).value();
  ASSERT_EQ(made.runs.size(), 1u);
  EXPECT_EQ(made.runs[0].model_path, "Qwen/Qwen2.5-7B-Instruct") << "the Hub's name of it";
  EXPECT_EQ(made.runs[0].definitions.size(), 1u);
  ASSERT_EQ(made.unreachable.size(), 1u);
  EXPECT_NE(made.unreachable[0].why.find("num_qo_heads is 28, and 32"), std::string::npos)
      << made.unreachable[0].why;
  EXPECT_NE(made.unreachable[0].reach.find("--model-name"), std::string::npos);
  EXPECT_TRUE(made.unreachable[0].is_of_others);

  // All that it calls, in one way of spreading it.
  std::vector<const Definition*> all;
  for (const Definition& definition : dataset_.definitions) all.push_back(&definition);
  const auto whole =
      plan_runs(all, bindings_, recipes_, {.model_name = "qwen3-30b-a3b", .takes_all = true})
          .value();
  EXPECT_EQ(whole.runs.size(), 2u);
  for (const EngineRun& run : whole.runs) EXPECT_EQ(run.tensor_parallel, 1);

  // Spread as the definition needs it, and not otherwise if the user says how.
  two = {dataset_.find("gqa_paged_decode_h16_kv2_d128_ps1")};
  EnginePlanOptions llama{.model_name = "meta-llama/Llama-3.1-70B-Instruct"};
  EXPECT_EQ(plan_runs(two, bindings_, recipes_, llama).value().runs.at(0).tensor_parallel, 4);
  llama.tensor_parallel = 8;
  EXPECT_TRUE(plan_runs(two, bindings_, recipes_, llama).value().runs.empty());
}

TEST_F(PlanTest, RoomForTheWeightsCounts) {
  const std::string mixtral = "gqa_paged_decode_h48_kv8_d128_ps1";  // on one GPU
  const auto refused = plan({mixtral});
  ASSERT_EQ(refused.unreachable.size(), 1u);
  EXPECT_NE(refused.unreachable[0].why.find("281 GB"), std::string::npos)
      << refused.unreachable[0].why;
  const std::string llama = "gqa_paged_decode_h32_kv8_d128_ps1";
  EXPECT_EQ(plan({llama}, {.capture = &level10::dump_method(), .gpus = 1, .gpu_memory = 24e9})
                .runs.size(),
            1u);
  EXPECT_EQ(plan({llama}, {.capture = &level10::dump_method(), .gpus = 1, .gpu_memory = 16e9})
                .unreachable.size(),
            1u);
  const auto few = plan({"gqa_paged_decode_h16_kv2_d128_ps1"},
                        {.capture = &level10::dump_method(), .gpus = 2, .gpu_memory = 141e9});
  ASSERT_EQ(few.unreachable.size(), 1u);
  EXPECT_NE(few.unreachable[0].why.find("needs 4 GPUs, and here are 2"), std::string::npos)
      << few.unreachable[0].why;
}

TEST_F(PlanTest, TheTypeOfTheWeightsCounts) {
  const auto made = plan({"moe_fp8_block_scale_renorm_topk8_e128_h2048_i768",
                          "trtllm_fp4_block_scale_moe_topk8_e128_h2048_i768"});
  ASSERT_EQ(made.runs.size(), 1u);
  EXPECT_EQ(made.runs[0].model_path, "Qwen/Qwen3-30B-A3B-FP8");
  ASSERT_EQ(made.unreachable.size(), 1u);
  EXPECT_NE(made.unreachable[0].why.find("float4_e2m1fn_mxfp4"), std::string::npos);
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

TEST_F(PlanTest, NothingIsReplacedInWhatHasBeenPutIn) {
  EXPECT_EQ(fill_in({"--path={path}", "{\"input\": {part}, \"output\": 0}", "{rate", "{none}"},
                    {{"path", "a{rate}b{path}"}, {"part", "0.5"}, {"rate", "7"}}),
            (Words{"--path=a{rate}b{path}", "{\"input\": 0.5, \"output\": 0}", "{rate", "{none}"}));
}

// What has no pages takes the engine's own size, and goes with any.
TEST_F(PlanTest, DefinitionsWithoutPagesNeedNoPageSize) {
  const EnginePlanOptions vllm{.engine = "vllm"};
  const auto alone = plan({"gemm_n6144_k4096"}, vllm);
  ASSERT_EQ(alone.runs.size(), 1u);
  EXPECT_EQ(alone.runs[0].flags[0].alternatives[0], (Words{"--attention-backend", "FLASHINFER"}));
  // Decode is recorded as it runs in production, compiled; prefill as well, where it can be.
  const auto beside =
      plan({"gqa_paged_prefill_causal_h32_kv8_d128_ps64", "gemm_n6144_k4096"}, vllm);
  ASSERT_EQ(beside.runs.size(), 1u);
  EXPECT_EQ(beside.runs[0].flags[0].alternatives[0], (Words{"--block-size", "64"}));
  const auto all = plan({"gqa_paged_prefill_causal_h32_kv8_d128_ps64", "gemm_n6144_k4096",
                         "gqa_paged_decode_h32_kv8_d128_ps64"},
                        vllm);
  ASSERT_EQ(all.runs.size(), 2u);
  EXPECT_EQ(all.runs[0].definitions.size(), 2u);
  EXPECT_EQ(all.runs[0].profile, "usual");
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
  const auto made = plan({moe, "gemm_n256_k7168"}, {.compute_capability = 100});
  ASSERT_EQ(made.runs.size(), 2u) << "with experts in groups, and without";
  EXPECT_EQ(made.runs[0].compute_capability, 100);
  EXPECT_EQ(made.runs[1].compute_capability, 0) << "though its fused form needs it";
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
