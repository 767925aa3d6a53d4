#include "capture/signature.h"

#include <gtest/gtest.h>

namespace cw {
namespace {

TEST(Signature, NamesGoThroughAnnotationsWithCommasAndBrackets) {
  const auto signature = parse_signature(
      "(self, q: torch.Tensor, paged_kv_cache: Union[torch.Tensor, Tuple[torch.Tensor, "
      "torch.Tensor]], *args, k_scale: Optional[float] = None) -> Union[torch.Tensor, "
      "Tuple[torch.Tensor, torch.Tensor]]");
  ASSERT_TRUE(signature);
  EXPECT_EQ(*signature->positional(0), "self");
  EXPECT_EQ(*signature->positional(2), "paged_kv_cache");
  EXPECT_EQ(*signature->positional(3), "*0");
  EXPECT_EQ(*signature->positional(5), "*2");
  ASSERT_NE(signature->find("k_scale"), nullptr);
  EXPECT_EQ(signature->find("k_scale")->kind, Parameter::Kind::keyword_only);
}

TEST(Signature, DecodePlanGoesThroughItsDeprecatedArguments) {
  const auto signature = parse_signature(
      "(self, indptr: torch.Tensor, indices: torch.Tensor, last_page_len: torch.Tensor, "
      "num_qo_heads: int, num_kv_heads: int, head_dim: int, page_size: int, "
      "*deprecated_positional_args: Any, **kwargs: Any) -> None");
  ASSERT_TRUE(signature);
  EXPECT_EQ(*signature->positional(4), "num_qo_heads");
  EXPECT_EQ(*signature->positional(7), "page_size");
  EXPECT_EQ(*signature->positional(9), "*1");
}

TEST(Signature, DefaultsThatAreLiterals) {
  const auto signature = parse_signature(
      "(a: int, b: float = 1e-06, c: bool = True, d='x, y', e: E = <E.f: 1>, *, g: int = -1)");
  ASSERT_TRUE(signature);
  EXPECT_FALSE(signature->find("a")->default_value);
  EXPECT_EQ(std::get<double>(signature->find("b")->default_value->data), 1e-06);
  EXPECT_EQ(std::get<bool>(signature->find("c")->default_value->data), true);
  EXPECT_EQ(std::get<std::string>(signature->find("d")->default_value->data), "x, y");
  EXPECT_FALSE(signature->find("e")->default_value);
  EXPECT_EQ(std::get<std::int64_t>(signature->find("g")->default_value->data), -1);
  EXPECT_EQ(signature->find("g")->kind, Parameter::Kind::keyword_only);
  EXPECT_EQ(signature->positional(5).error().code, "signature_mismatch");
}

TEST(Signature, WhatIsNone) {
  for (const char* text : {"", "<unavailable>", "(a", "(a b)", "(=1)"})
    EXPECT_EQ(parse_signature(text).error().code, "signature_malformed") << text;
  EXPECT_TRUE(parse_signature("()"));
}

}  // namespace
}  // namespace cw
