#include "bind/binding.h"

#include <set>

#include "support/fixture.h"

namespace cw {
namespace {

TEST(Bindings, EveryDefinitionOfTheDatasetHasOne) {
  testing::TemporaryFolder folder;
  testing::unpack("definitions", folder.path());
  const auto dataset = Dataset::open(folder.path());
  const auto bindings = BindingSet::parse(std::string(built_in_bindings()));
  ASSERT_TRUE(dataset && bindings) << bindings.error().message;
  std::map<std::string, std::set<std::string>> used;
  for (const Definition& definition : dataset->definitions) {
    const auto serving = bindings->serving(definition);
    ASSERT_TRUE(serving) << serving.error().message;
    for (const Binding* binding : *serving) used[definition.op_type].insert(binding->id);
  }
  EXPECT_EQ(used["gqa_paged"], (std::set<std::string>{"gqa_paged_decode", "gqa_paged_decode_trtllm",
                                                      "gqa_paged_decode_xqa", "gqa_paged_prefill",
                                                      "gqa_paged_prefill_trtllm"}));
  EXPECT_EQ(used["mla_paged"],
            (std::set<std::string>{"mla_paged_decode", "mla_paged_decode_trtllm",
                                   "mla_paged_decode_xqa", "mla_paged_prefill"}));
  EXPECT_EQ(used["moe"].size(), 5u);
  EXPECT_EQ(used["sampling"].size(), 3u);
  EXPECT_EQ(used["gemm"], (std::set<std::string>{"gemm", "gemm_gate_up"}));
  // No binding is there for nothing.
  std::size_t total = 0;
  for (const auto& [op_type, ids] : used) total += ids.size();
  EXPECT_EQ(total, bindings->bindings().size());
}

TEST(Bindings, WhatNoCallCanGiveSaysWhy) {
  const auto bindings = BindingSet::parse(std::string(built_in_bindings()));
  std::set<std::string> unbindable;
  for (const Binding& binding : bindings->bindings())
    if (!binding.unbindable.empty()) unbindable.insert(binding.id);
  EXPECT_EQ(unbindable, (std::set<std::string>{"dsa_topk_indexer"}));
}

TEST(Bindings, MistakesAreNamed) {
  const auto error = [](const std::string& entry) {
    const auto set = BindingSet::parse(
        "format: 1\nreasons: {known: text}\nbindings:\n- {id: b, op_type: o, " + entry + "}\n");
    return set ? std::string("accepted") : set.error().message;
  };
  EXPECT_EQ(error("function: f, inputs: {x: {from: call.x}}"), "accepted");
  EXPECT_EQ(error("function: f, inputz: {}"), "binding b: unknown field 'inputz'");
  EXPECT_EQ(error("function: f, inputs: {x: {from: call.x, via: twist}}"),
            "binding b: input x: unknown transform 'twist'");
  EXPECT_EQ(error("function: f, inputs: {x: {value: call.x, default: '1'}}"),
            "binding b: input x: a default needs 'cite': the documentation that says so");
  EXPECT_EQ(error("function: f, reject: [{when: 'call.x', reason: other}]"),
            "binding b: reason 'other' is not among 'reasons'");
  EXPECT_EQ(error("function: f, unbindable: why"),
            "binding b: needs one of 'function' and 'unbindable'");
  EXPECT_EQ(error("function: f, inputs: {x: {from: call.x, via: pages of call.y}}"),
            "binding b: input x: two expressions are needed: pages of A by B");
  EXPECT_EQ(
      error("function: f, inputs: {x: {from: call.x, via: 'last_page_len input.y.shape[1]'}}"),
      "binding b: input x: input.y is no tensor that is made of the call alone");
  EXPECT_EQ(
      error("function: f, inputs: {x: {from: call.x, via: 'last_page_len input.x.shape[1]'}}"),
      "binding b: input x: input.x is no tensor that is made of the call alone");
  EXPECT_EQ(error("function: f, checks: [{indices: x}]"),
            "binding b: check 'indices' needs 'below' or 'up_to'");
  EXPECT_EQ(BindingSet::parse("format: 1\nunbound: {f: why}\n"
                              "bindings: [{id: b, op_type: o, function: f}]")
                .error()
                .message,
            "binding b: function f is among 'unbound'");
  EXPECT_FALSE(BindingSet::parse("format: 2\nbindings: []"));
  EXPECT_FALSE(BindingSet::parse("{"));
}

}  // namespace
}  // namespace cw
