// FlashInfer's functions that take a page table and lengths instead of indptr and indices.
#include <fmt/ranges.h>

#include "bind/needs.h"
#include "support/fixture.h"

namespace cw::testing {
namespace {

using Arguments = std::vector<std::pair<std::string, DumpValue>>;

constexpr const char* decode64 = "gqa_paged_decode_h32_kv8_d128_ps64";
constexpr const char* prefill64 = "gqa_paged_prefill_causal_h32_kv8_d128_ps64";
constexpr const char* mla64 = "mla_paged_decode_h16_ckv512_kpe64_ps64";

DumpLiteral literal(const char* text) {
  return {text};
}
DumpTensor bf16(Shape shape) {
  return {DType::bfloat16, std::move(shape)};
}
DumpTensor table(std::int64_t width, const Values& entries) {
  DumpTensor tensor = int32_tensor(entries);
  tensor.shape = {static_cast<std::int64_t>(entries.size()) / width, width};
  return tensor;
}

class PageTable : public DatasetTest {
 protected:
  void call(const std::string& function, const std::string& module, const std::string& signature,
            const Arguments& arguments) {
    DumpCall made{function, module, signature, 0, {}};
    for (const auto& [name, value] : arguments) made.arguments.emplace_back("kwarg_" + name, value);
    writer_.write(made);
    writer_.tick();
  }

  // Three sequences of 65, 64 and 1 tokens; entries beyond a row's pages are left from others.
  Arguments decode(Arguments more = {}) {
    Arguments arguments{{"query", bf16({3, 32, 128})},
                        {"kv_cache", DumpPair{bf16({16, 64, 8, 128}), bf16({16, 64, 8, 128})}},
                        {"block_tables", table(3, {4, 7, 99, 5, 98, 97, 1, 96, 95})},
                        {"seq_lens", int32_tensor({65, 64, 1})},
                        {"max_seq_len", literal("192")},
                        {"bmm1_scale", literal("0.125")},
                        {"bmm2_scale", literal("1.0")}};
    for (auto& [name, value] : more) {
      std::erase_if(arguments, [&name = name](const auto& known) { return known.first == name; });
      arguments.emplace_back(name, value);
    }
    return arguments;
  }
  void xqa(Arguments more = {}) {
    call("xqa_batch_decode_with_kv_cache", "flashinfer.decode",
         "(query, kv_cache, block_tables, seq_lens, max_seq_len, bmm1_scale = 1.0, bmm2_scale = "
         "1.0, kv_layout: str = 'NHD')",
         decode(std::move(more)));
  }
  void trtllm(Arguments more = {}) {
    call("trtllm_batch_decode_with_kv_cache", "flashinfer.decode",
         "(query, kv_cache, block_tables, seq_lens, max_seq_len, bmm1_scale = 1.0, bmm2_scale = "
         "1.0, kv_layout: str = 'HND')",
         decode(std::move(more)));
  }
  void trtllm_nhd(Arguments more) {
    more.emplace_back("kv_layout", literal("\"NHD\""));
    trtllm(std::move(more));
  }
  DumpWriter writer_{dumps(), 77};
};

TEST_F(PageTable, BecomesIndptrIndicesAndLastPages) {
  xqa();
  sanitize_dumps();
  const auto found = workloads(decode64);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(stored(found[0], "kv_indptr"), (Values{0, 2, 3, 4}));
  EXPECT_EQ(stored(found[0], "kv_indices"), (Values{4, 7, 5, 1}));
  EXPECT_EQ(stored(found[0], "kv_last_page_len"), (Values{1, 64, 1}));
  EXPECT_EQ(found[0]["inputs"]["sm_scale"]["value"], 0.125);

  // Computed, by a rule that says where it is from.
  const auto section = nlohmann::json::parse(read_text(trace() / "collection.json"))["captures"][0];
  const auto& derived = section["definitions"][decode64]["derived_calls"];
  for (const char* name : {"kv_indptr", "kv_indices", "kv_last_page_len"})
    EXPECT_EQ(derived[name], 1) << derived;
  EXPECT_FALSE(derived.contains("sm_scale"));
}

TEST_F(PageTable, EveryFunctionAndLayoutGivesTheSameWorkload) {
  trtllm({{"kv_cache", bf16({16, 2, 8, 64, 128})}});  // HND, its default
  trtllm({{"kv_cache", bf16({16, 2, 64, 8, 128})}, {"kv_layout", literal("\"NHD\"")}});
  const Heads paged{.page_size = 64, .pool = 16};
  DumpCall plan = decode_plan(0xa, {0, 2, 3, 4}, {4, 7, 5, 1}, paged);
  for (auto& [name, value] : plan.arguments)
    if (name == "arg_3") value = int32_tensor({1, 64, 1});
  plan.arguments.emplace_back("kwarg_sm_scale", literal("0.125"));
  writer_.write(plan);
  writer_.tick();
  writer_.write(decode_run(0xa, 3, paged));
  writer_ = DumpWriter(dumps(), 78);  // in another process, where no other function calls it
  xqa();
  sanitize_dumps();
  ASSERT_EQ(workloads(decode64).size(), 1u);
  const auto section = nlohmann::json::parse(read_text(trace() / "collection.json"))["captures"][0];
  EXPECT_EQ(section["definitions"][decode64]["calls"], 4);
  EXPECT_EQ(section["definitions"][decode64]["derived_calls"]["kv_indices"], 3);
}

TEST_F(PageTable, WhatTheFunctionsAddIsRejectedByName) {
  const DumpTensor one = int32_tensor({1});
  xqa({{"window_left", literal("127")}});
  xqa({{"sinks", bf16({32})}});
  xqa({{"mask", one}});
  xqa({{"bmm2_scale", literal("0.5")}});
  xqa({{"q_len_per_req", literal("2")}, {"query", bf16({6, 32, 128})}});
  xqa({{"query", bf16({6, 32, 128})}});
  trtllm_nhd({{"uses_shared_paged_kv_idx", literal("false")}});
  trtllm_nhd({{"enable_block_sparse_attention", literal("true")}});
  trtllm_nhd({{"skip_softmax_threshold_scale_factor", literal("0.1")}});
  trtllm_nhd({{"cp_world", literal("2")}});
  trtllm_nhd({{"bmm1_scale_log2", one}});
  trtllm_nhd({{"o_sf_scale", literal("1.0")}});
  trtllm_nhd({{"kv_cache_sf", one}});
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "multi_token_decode"), 2u);
  for (const char* reason : {"sliding_window", "attention_sinks", "custom_mask", "value_scale",
                             "split_page_table", "block_sparse", "skip_softmax", "context_parallel",
                             "device_scale", "quantized_output", "quantized_kv"})
    EXPECT_EQ(count(outcome, reason), 1u) << reason;
  EXPECT_TRUE(workloads(decode64).empty());
}

TEST_F(PageTable, RowsThatPadABatchHaveNoPages) {
  xqa({{"seq_lens", int32_tensor({65, 64, 0})}});
  sanitize_dumps();
  const auto found = workloads(decode64);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(stored(found[0], "kv_indptr"), (Values{0, 2, 3, 3}));
  EXPECT_EQ(stored(found[0], "kv_indices"), (Values{4, 7, 5}));
}

TEST_F(PageTable, TablesThatDoNotMatchTheLengthsAreNamed) {
  xqa({{"seq_lens", int32_tensor({65, 64, 200})}});  // needs 4 pages of 3
  xqa({{"block_tables", int32_tensor({4, 7, 5})}});
  xqa({{"block_tables", table(3, {4, 99, 0, 5, 0, 0, 1, 0, 0})}});  // page 99 of 16
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "input_shape"), 2u);
  EXPECT_EQ(count(outcome, "structure"), 1u);
  EXPECT_TRUE(workloads(decode64).empty());
}

TEST_F(PageTable, ACallWithinTheOtherFunctionCountsOnce) {
  trtllm({{"kv_cache", bf16({16, 2, 64, 8, 128})}, {"kv_layout", literal("\"NHD\"")}});
  xqa();
  EXPECT_EQ(count(sanitize_dumps(), "nested_call"), 1u);
  EXPECT_EQ(workloads(decode64).size(), 1u);
}

// A recorder takes of a table what is in use; but all of it where another definition reads all.
TEST_F(PageTable, IsCutByTheRecorderUnlessItIsReadWhole) {
  const Json values = needs_of(bindings_).index_values;
  EXPECT_EQ(values.at("xqa_batch_decode_with_kv_cache").at("block_tables"),
            Json({{"lengths", "seq_lens"}, {"pages", "kv_cache"}, {"layout", "kv_layout"}}));
  EXPECT_TRUE(values.at("trtllm_batch_decode_with_kv_cache_mla").at("block_tables").is_array());
}

TEST_F(PageTable, OfAPrefill) {
  const auto context = [this](const char* causal) {
    Arguments arguments = decode({{"query", bf16({5, 32, 128})},
                                  {"cum_seq_lens_q", int32_tensor({0, 2, 4, 5})},
                                  {"causal", literal(causal)}});
    call("trtllm_batch_context_with_kv_cache", "flashinfer.prefill",
         "(query, kv_cache, block_tables, seq_lens, bmm1_scale, bmm2_scale, cum_seq_lens_q, "
         "kv_layout: str = 'NHD')",
         arguments);
  };
  context("true");
  context("false");
  EXPECT_EQ(count(sanitize_dumps(), "non_causal"), 1u);
  const auto found = workloads(prefill64);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(stored(found[0], "qo_indptr"), (Values{0, 2, 4, 5}));
  EXPECT_EQ(stored(found[0], "kv_indices"), (Values{4, 7, 5, 1}));
}

TEST_F(PageTable, OfLatentAttention) {
  const auto mla = [this](const char* function, Shape query, Arguments more = {}) {
    Arguments arguments{{"query", bf16(std::move(query))},
                        {"kv_cache", bf16({16, 1, 64, 576})},
                        {"kv_lora_rank", literal("512")},
                        {"qk_rope_head_dim", literal("64")},
                        {"block_tables", table(3, {4, 7, 99, 5, 98, 97, 1, 96, 95})},
                        {"seq_lens", int32_tensor({65, 64, 1})},
                        {"bmm1_scale", literal("0.125")}};
    arguments.insert(arguments.end(), more.begin(), more.end());
    call(function, "flashinfer.mla._core", "(query, kv_cache, bmm1_scale)", arguments);
  };
  mla("trtllm_batch_decode_with_kv_cache_mla", {3, 1, 16, 576});
  mla("trtllm_batch_decode_with_kv_cache_mla", {3, 1, 16, 576}, {{"enable_dcp", literal("true")}});
  mla("trtllm_batch_decode_with_kv_cache_mla", {3, 2, 16, 576});
  writer_.write(decode_plan(0xa, {0, 2}, {3, 4}));  // nothing is beside the next one
  writer_.tick();
  writer_.write(decode_run(0xa, 1));
  writer_.tick();
  mla("xqa_batch_decode_with_kv_cache_mla", {3, 1, 16, 576});
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "context_parallel"), 1u);
  EXPECT_EQ(count(outcome, "multi_token_decode"), 1u);
  const auto found = workloads(mla64);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(stored(found[0], "kv_indptr"), (Values{0, 2, 3, 4}));
  EXPECT_EQ(stored(found[0], "kv_last_page_len"), (Values{1, 64, 1}));
}

}  // namespace
}  // namespace cw::testing
