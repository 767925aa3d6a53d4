#include "tensor/safetensors.h"

#include <cstring>

#include <gtest/gtest.h>

#include "support/fixture.h"

namespace cw {
namespace {

Result<std::vector<SafetensorsEntry>> parse(std::string header, std::uint64_t data_bytes) {
  const std::size_t size = header.size();
  header.resize(size + 64);
  return parse_safetensors_header(std::string_view(header).substr(0, size), 8 + size + data_bytes);
}

TEST(Safetensors, WhatIsWrittenIsRead) {
  testing::TemporaryFolder folder;
  const DenseTensor a = from_integers(DType::int32, {2, 2}, std::vector<std::int64_t>{1, 2, 3, 4});
  const DenseTensor empty{DType::bfloat16, {0, 8}, ""};
  testing::write_text(folder / "x.safetensors", write_safetensors({{"a", &a}, {"empty", &empty}}));
  const auto entries = read_safetensors_header((folder / "x.safetensors").string());
  ASSERT_TRUE(entries) << entries.error().message;
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[0].shape, (Shape{2, 2}));
  EXPECT_EQ((*entries)[0].begin % 8, 0u);
  EXPECT_EQ((*entries)[1].begin, (*entries)[1].end);
}

TEST(Safetensors, HeadersOfAnyOrderAndDtype) {
  const auto entries = parse(
      R"({"b":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]},"__metadata__":{"format":"pt"},"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}})",
      8);
  ASSERT_TRUE(entries) << entries.error().message;
  EXPECT_EQ((*entries)[0].name, "b");
  EXPECT_EQ((*entries)[1].dtype, DType::float8_e4m3fn);
}

TEST(Safetensors, BadHeadersAreRefused) {
  const char* bad[] = {
      R"({"a":{"dtype":"I32","shape":[2],"data_offsets":[0,16]}})",  // past the end
      R"({"a":{"dtype":"I32","shape":[2],"data_offsets":[8,0]}})",   // backwards
      R"({"a":{"dtype":"I32","shape":[3],"data_offsets":[0,8]}})",   // not its size
      R"({"a":{"dtype":"I32","shape":[-2],"data_offsets":[0,8]}})",  // negative
      R"({"a":{"dtype":"I32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})",  // overflow
      R"({"a":{"dtype":"I32","shape":[2],"data_offsets":[0,18446744073709551615]}})",   // overflow
      R"({"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}})",  // a hole at the end
      R"({"a":{"dtype":"I32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I32","shape":[1],"data_offsets":[4,8]}})",  // overlap
      R"({"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"I32","shape":[1],"data_offsets":[4,8]}})",  // twice
      R"({"a":{"dtype":"X9","shape":[2],"data_offsets":[0,8]}})",
      R"({"a":{"shape":[2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}} x)",
      R"({"a":7})",
      R"([])",
      R"()",
      R"({)",
      "{\"\xff\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
  };
  for (const char* header : bad)
    EXPECT_EQ(parse(header, 8).error().code, "safetensors_malformed") << header;
}

TEST(Safetensors, HeaderLengthIsChecked) {
  const auto length = [](std::uint64_t claimed, std::uint64_t file) {
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &claimed, 8);
    return safetensors_header_size(bytes, file);
  };
  EXPECT_TRUE(length(10, 18));
  EXPECT_FALSE(length(11, 18));
  EXPECT_FALSE(length(std::uint64_t{1} << 63, 1000));
  EXPECT_FALSE(length(~std::uint64_t{0}, 1000));
  EXPECT_FALSE(safetensors_header_size("", 0));
  EXPECT_FALSE(safetensors_header_size("1234", 4));
}

}  // namespace
}  // namespace cw
