#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "base/hash.h"
#include "tensor/shape.h"

namespace cw {
namespace {

TEST(Shape, CountsAreSafe) {
  EXPECT_EQ(element_count(Shape{}), 1u);
  EXPECT_EQ(element_count(Shape{3, 0, std::numeric_limits<std::int64_t>::max()}), 0u);
  EXPECT_FALSE(element_count(Shape{-1}));
  EXPECT_FALSE(element_count(Shape{std::int64_t{1} << 40, std::int64_t{1} << 40}));
  EXPECT_FALSE(byte_count(DType::float64, std::uint64_t{1} << 62));
  EXPECT_EQ(byte_count(DType::float4_e2m1, 3), 3u) << "of two values each";
}

TEST(DType, NamesGoBothWays) {
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::float8_e4m3fn, DType::int64,
                            DType::uint8, DType::boolean}) {
    EXPECT_EQ(dtype_from_trace(trace_name(dtype)), dtype);
    EXPECT_EQ(dtype_from_torch("torch." + std::string(trace_name(dtype))), dtype);
    EXPECT_EQ(dtype_from_safetensors(safetensors_name(dtype)), dtype);
  }
  EXPECT_FALSE(dtype_from_torch("torch.quint8"));
}

TEST(Cast, IntegersKeepTheirValueOrAreRefused) {
  const DenseTensor wide =
      from_integers(DType::int64, {3}, std::vector<std::int64_t>{-1, 0, 2147483647});
  const auto narrow = cast(wide, DType::int32);
  ASSERT_TRUE(narrow);
  EXPECT_EQ(integers(*narrow), integers(wide));
  EXPECT_FALSE(
      cast(from_integers(DType::int64, {1}, std::vector<std::int64_t>{std::int64_t{1} << 31}),
           DType::int32));
  EXPECT_FALSE(cast(wide, DType::uint8));
  EXPECT_FALSE(cast(wide, DType::bfloat16));
  EXPECT_TRUE(cast(wide, DType::float32) == std::nullopt);  // 2^31 - 1 is no float
}

TEST(Cast, Bfloat16RoundsToNearestEven) {
  const float values[] = {1.0f, 1.00390625f, 1.01171875f, -3.0e38f,
                          std::numeric_limits<float>::quiet_NaN()};
  const DenseTensor f{
      DType::float32, {5}, std::string(reinterpret_cast<const char*>(values), sizeof values)};
  const auto b = cast(f, DType::bfloat16);
  ASSERT_TRUE(b);
  EXPECT_EQ(number_at(b->dtype, b->bytes, 0), 1.0);
  EXPECT_EQ(number_at(b->dtype, b->bytes, 1), 1.0);       // halfway, to even
  EXPECT_EQ(number_at(b->dtype, b->bytes, 2), 1.015625);  // halfway, to even
  EXPECT_TRUE(std::isnan(*number_at(b->dtype, b->bytes, 4)));
}

// What int64 does not hold is negative there too.
TEST(Cast, TheRangeOfIntegersIsThatOfTheirValues) {
  DenseTensor tensor{DType::uint64, {3}, {}};
  for (const std::uint64_t value :
       {std::uint64_t{1}, (std::uint64_t{1} << 63) + 5, std::uint64_t{7}})
    append_bytes(tensor.bytes, value);
  const std::vector<std::int64_t> values = integers(tensor);
  const auto [min, max] = std::ranges::minmax(values);
  EXPECT_EQ(integer_range(tensor), std::pair(min, max));
  EXPECT_EQ(integer_range(DenseTensor{DType::uint8, {2}, "\xff\x01"}),
            std::pair(std::int64_t{1}, std::int64_t{255}));
}

TEST(Numbers, Float16) {
  const std::uint16_t raw[] = {0x3c00, 0xc000, 0x0001, 0x7c00};
  const std::string bytes(reinterpret_cast<const char*>(raw), sizeof raw);
  EXPECT_EQ(number_at(DType::float16, bytes, 0), 1.0);
  EXPECT_EQ(number_at(DType::float16, bytes, 1), -2.0);
  EXPECT_EQ(number_at(DType::float16, bytes, 2), std::ldexp(1.0, -24));
  EXPECT_TRUE(std::isinf(*number_at(DType::float16, bytes, 3)));
}

}  // namespace
}  // namespace cw
