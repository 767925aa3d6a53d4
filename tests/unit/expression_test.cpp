#include "definition/expression.h"

#include <map>

#include <gtest/gtest.h>

namespace cw {
namespace {

class Table : public NameResolver {
 public:
  Result<Operand> value_of(std::string_view name) const override {
    const auto found = values.find(name);
    if (found == values.end()) return fail("unknown_name", "{}", name);
    return found->second;
  }
  bool is_given(std::string_view name) const override { return values.contains(name); }
  std::map<std::string, Operand, std::less<>> values;
};

TensorOperand index_tensor(std::vector<std::int64_t> values) {
  const Shape shape{static_cast<std::int64_t>(values.size())};
  return {DType::int32, shape, [shape, values]() -> Result<std::shared_ptr<const DenseTensor>> {
            return std::make_shared<const DenseTensor>(from_integers(DType::int32, shape, values));
          }};
}

std::string evaluate(const std::string& text, const Table& names = {}) {
  const auto expression = Expression::parse(text);
  if (!expression) return expression.error().code;
  const auto value = expression->evaluate(names);
  return value ? describe(*value) : value.error().code;
}

TEST(Expression, FormsOfTheDatasetsConstraints) {
  Table names;
  names.values = {{"len_indptr", std::int64_t{4}},     {"batch_size", std::int64_t{3}},
                  {"num_kv_indices", std::int64_t{9}}, {"intermediate_size", std::int64_t{64}},
                  {"topk", std::int64_t{7}},           {"nheads", std::int64_t{8}},
                  {"ngroups", std::int64_t{3}}};
  names.values["kv_indptr"] = index_tensor({0, 2, 5, 9});
  names.values["w"] = TensorOperand{DType::bfloat16, {2, 128, 7}, {}};
  EXPECT_EQ(evaluate("len_indptr == batch_size + 1", names), "True");
  EXPECT_EQ(evaluate("num_kv_indices == kv_indptr[-1].item()", names), "True");
  EXPECT_EQ(evaluate("w.shape[1] == 2 * intermediate_size", names), "True");
  EXPECT_EQ(evaluate("w.shape[-1] == topk", names), "True");
  EXPECT_EQ(evaluate("nheads % ngroups == 0", names), "False");
  EXPECT_EQ(evaluate("topk <= len_indptr * batch_size", names), "True");
}

TEST(Expression, FollowsPython) {
  EXPECT_EQ(evaluate("-7 // 2"), "-4");
  EXPECT_EQ(evaluate("-7 % 3"), "2");
  EXPECT_EQ(evaluate("1 < 2 < 2"), "False");
  EXPECT_EQ(evaluate("None or 3"), "3");
  EXPECT_EQ(evaluate("0 and 1 / 0"), "0");
  EXPECT_EQ(evaluate("not None"), "True");
  EXPECT_EQ(evaluate("1 / sqrt(4)"), "0.5");
  EXPECT_EQ(evaluate("max(0 or 1, 1)"), "1");
  EXPECT_EQ(evaluate("'NONE' != 'ROPE'"), "True");
  EXPECT_EQ(evaluate("None is not None"), "False");
}

TEST(Expression, NoneRunsThroughArithmetic) {
  EXPECT_EQ(evaluate("None * 2"), "None");
  EXPECT_EQ(evaluate("sqrt(None)"), "None");
  EXPECT_EQ(evaluate("None < 2"), "expression_type");
}

TEST(Expression, WhatCannotBeComputedIsAnError) {
  EXPECT_EQ(evaluate("1 // 0"), "expression_type");
  EXPECT_EQ(evaluate("9223372036854775807 + 1"), "expression_type");
  EXPECT_EQ(evaluate("-9223372036854775807 - 2"), "expression_type");
  EXPECT_EQ(evaluate("unheard_of"), "unknown_name");
  EXPECT_EQ(evaluate("'a' + 1"), "expression_type");
  Table names;
  names.values["t"] = index_tensor({1, 2});
  EXPECT_EQ(evaluate("t[2]", names), "expression_type");
  EXPECT_EQ(evaluate("t[-3]", names), "expression_type");
  EXPECT_EQ(evaluate("t.item()", names), "expression_type");
}

TEST(Expression, GivenAsksTheCallNotTheValue) {
  Table names;
  names.values["plan.causal"] = false;
  EXPECT_EQ(evaluate("given(plan.causal) and not plan.causal", names), "True");
  EXPECT_EQ(evaluate("given(plan.window_left)", names), "False");
}

TEST(Expression, SyntaxErrorsNameTheColumn) {
  for (const char* text : {"", "a ==", "(a", "a[b]", "f(1)", "1 2", "'open", "sqrt()", "a.shape[",
                           "given(1)", "lambda: 1", "__import__('os')"})
    EXPECT_EQ(evaluate(text), "expression_syntax") << text;
  EXPECT_NE(Expression::parse("batch_size = 1").error().message.find("column 12"),
            std::string::npos);
}

TEST(Expression, NestingAndLengthAreBounded) {
  EXPECT_EQ(evaluate(std::string(3000, '(') + "1"), "expression_syntax");
  EXPECT_EQ(evaluate(std::string(3000, '-') + "1"), "expression_syntax");
  EXPECT_EQ(evaluate(std::string(100'000, '1')), "expression_syntax");
}

}  // namespace
}  // namespace cw
