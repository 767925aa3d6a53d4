#include "definition/definition.h"

#include <nlohmann/json.hpp>

#include "support/fixture.h"

namespace cw {
namespace {

const nlohmann::json good = nlohmann::json::parse(R"({
  "name": "d", "op_type": "o", "tags": ["fi_api:flashinfer.norm.rmsnorm", "tp:8", "api:older_name", "model:a", "model:b"],
  "axes": {"n": {"type": "var"}, "h": {"type": "const", "value": 4}},
  "inputs": {"x": {"shape": ["n", "h"], "dtype": "bfloat16"}, "s": {"shape": null, "dtype": "float32", "optional": true}},
  "outputs": {"y": {"shape": ["n"], "dtype": "float32"}},
  "constraints": ["n >= h"], "reference": "def run(x, s): pass"})");

TEST(Definition, IsReadWhole) {
  const auto definition = parse_definition(good.dump(), "d.json");
  ASSERT_TRUE(definition) << definition.error().message;
  EXPECT_FALSE(definition->axis("n")->constant);
  EXPECT_EQ(*definition->axis("h")->constant, 4);
  EXPECT_TRUE(definition->input("s")->is_scalar);
  EXPECT_TRUE(definition->input("s")->optional);
  EXPECT_EQ(definition->input("x")->axes.size(), 2u);
  EXPECT_EQ(definition->constraints[0].text(), "n >= h");
  EXPECT_EQ(definition->apis(), (std::vector<std::string_view>{"rmsnorm", "older_name"}));
  EXPECT_EQ(definition->tag_values("model").size(), 2u);
}

TEST(Definition, TagsThatNameAMethodNameItsClass) {
  for (const auto& [tag, api] :
       {std::pair("flashinfer.decode.BatchDecodeWithPagedKVCacheWrapper.run",
                  "BatchDecodeWithPagedKVCacheWrapper"),
        {"flashinfer.mla.BatchMLAPagedAttentionWrapper.plan", "BatchMLAPagedAttentionWrapper"},
        {"Wrapper.run", "Wrapper"},
        {"flashinfer.prefill.BatchPrefillWithPagedKVCacheWrapper",
         "BatchPrefillWithPagedKVCacheWrapper"},
        {"flashinfer.norm.rmsnorm", "rmsnorm"},
        {"rmsnorm", "rmsnorm"}}) {
    nlohmann::json json = good;
    json["tags"] = {std::string("fi_api:") + tag};
    const auto definition = parse_definition(json.dump(), "d.json");
    ASSERT_TRUE(definition);
    EXPECT_EQ(definition->apis(), std::vector<std::string_view>{api}) << tag;
  }
}

TEST(Definition, ErrorsNameFileFieldAndWhatWasExpected) {
  const auto error = [](const std::string& pointer, const nlohmann::json& value) {
    nlohmann::json changed = good;
    if (value.is_discarded())
      changed.erase(pointer.substr(1));
    else
      changed[nlohmann::json::json_pointer(pointer)] = value;
    const auto definition = parse_definition(changed.dump(), "d.json");
    return definition ? std::string("accepted") : definition.error().message;
  };
  EXPECT_EQ(error("/name", ""), "d.json: name: expected a non-empty string");
  EXPECT_EQ(error("/name", 3), "d.json: name: expected a string, got 3");
  EXPECT_EQ(error("/name", "../x"),
            "d.json: name: '../x' becomes part of a path: letters, digits and . _ + - are "
            "possible, at most 128");
  EXPECT_EQ(error("/axes/h/value", -1), "d.json: axes.h.value: expected an integer of 0 or more");
  EXPECT_EQ(error("/axes/h/type", "fixed"),
            "d.json: axes.h.type: expected \"const\" or \"var\", got \"fixed\"");
  EXPECT_EQ(error("/inputs/x/dtype", "bf16"),
            "d.json: inputs.x.dtype: expected a dtype such as \"bfloat16\", got \"bf16\"");
  EXPECT_EQ(error("/inputs/x/shape", {"n", "k"}),
            "d.json: inputs.x.shape: \"k\" is not among the definition's axes");
  EXPECT_EQ(error("/inputs/x/shape", "n"),
            "d.json: inputs.x.shape: expected a list of axes or null, got \"n\"");
  EXPECT_EQ(error("/constraints", {"n =="}),
            "d.json: constraints: 'n ==': expected a value at column 5");
  EXPECT_EQ(error("/outputs/x", {{"shape", nullptr}, {"dtype", "int32"}}),
            "d.json: outputs.x: an input has the same name");
  EXPECT_EQ(error("/tags", "x"), "d.json: tags: expected a list of strings, got \"x\"");
  EXPECT_EQ(error("/inputs", nlohmann::json(nlohmann::json::value_t::discarded)),
            "d.json: inputs: missing; expected an object of tensors");
  EXPECT_EQ(parse_definition("{", "d.json").error().message, "d.json: file: not valid JSON");
}

TEST(Definition, AllOfTheDataset) {
  testing::TemporaryFolder folder;
  testing::unpack("definitions", folder.path());
  const auto dataset = Dataset::open(folder.path());
  ASSERT_TRUE(dataset);
  EXPECT_EQ(dataset->definitions.size(), 156u);
  EXPECT_TRUE(dataset->bad_definitions.empty());
}

}  // namespace
}  // namespace cw
