#include "capture/recorder/cbor.h"

#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace cw::testing {

using recording::CborItem;
using recording::is_plain_cbor;

std::string to_cbor(const nlohmann::json& json) {
  std::string bytes;
  nlohmann::json::to_cbor(json, bytes);
  return bytes;
}

// What an item says, as JSON says it.
nlohmann::json to_json(const CborItem& item) {
  if (item.is_null()) return nullptr;
  if (const auto value = item.boolean()) return *value;
  if (const auto value = item.unsigned_integer()) return *value;
  if (const auto value = item.integer()) return *value;
  if (const auto value = item.real()) return *value;
  if (const auto value = item.text()) return std::string(*value);
  if (const auto value = item.bytes())
    return nlohmann::json::binary({value->begin(), value->end()});
  nlohmann::json json = item.is_array() ? nlohmann::json::array() : nlohmann::json::object();
  item.for_each([&](const CborItem& inner) { json.push_back(to_json(inner)); });
  item.for_each_member([&](std::string_view name, const CborItem& inner) {
    json[std::string(name)] = to_json(inner);
  });
  return json;
}

TEST(Cbor, SaysWhatTheLibraryWrote) {
  const nlohmann::json json = {{"null", nullptr},
                               {"yes", true},
                               {"small", 5},
                               {"large", 1ull << 40},
                               {"most", ~0ull},
                               {"negative", -70000},
                               {"half", 0.5},
                               {"double", 0.1},
                               {"text", std::string(300, 'x')},
                               {"bytes", nlohmann::json::binary({1, 2, 3})},
                               {"nested", {1, {2, {3}}, {{"a", nlohmann::json::object()}}}},
                               {"", nlohmann::json::array()}};
  const std::string bytes = to_cbor(json);
  ASSERT_TRUE(is_plain_cbor(bytes));
  EXPECT_EQ(to_json(CborItem(bytes)), json);
  EXPECT_EQ(CborItem(bytes).encoded(), bytes);
  EXPECT_EQ(CborItem(bytes).member("small")->unsigned_integer(), 5u);
  EXPECT_FALSE(CborItem(bytes).member("missing"));
  EXPECT_FALSE(CborItem(bytes).member("most")->integer());
}

TEST(Cbor, HalfFloats) {  // RFC 8949, appendix A
  const auto half = [](std::string_view bytes) { return *CborItem(bytes).real(); };
  EXPECT_EQ(half({"\xf9\x00\x00", 3}), 0.0);
  EXPECT_EQ(half("\xf9\x3c\x01"), 1.0009765625);
  EXPECT_EQ(half("\xf9\xc4\x01"), -4.00390625);
  EXPECT_EQ(half({"\xf9\x00\x01", 3}), 5.960464477539063e-8);
  EXPECT_TRUE(std::isinf(half({"\xf9\x7c\x00", 3})));
  EXPECT_TRUE(std::isnan(half({"\xf9\x7e\x00", 3})));
}

TEST(Cbor, WhatTheRecorderNeverWritesIsRefused) {
  using namespace std::string_literals;
  for (const std::string& bytes :
       {""s, "\x5f\x41x\xff"s, "\x7f\x61x\xff"s, "\x9f\x01\xff"s, "\xbf\x61x\x01\xff"s,
        "\xc0\x61x"s, "\xd8\x18\x41\x00"s, "\xf7"s, "\xe0"s, "\xf8\x20"s, "\xff"s, "\x1c"s,
        "\x82\x01"s, "\x01\x01"s, "\x61"s, "\x9b\xff\xff\xff\xff\xff\xff\xff\xff"s,
        "\xbb\x80\x00\x00\x00\x00\x00\x00\x00"s, "\x5b\xff\xff\xff\xff\xff\xff\xff\xff"s})
    EXPECT_FALSE(is_plain_cbor(bytes)) << ::testing::PrintToString(bytes);
}

// Decided by a look at each byte, whatever they promise.
TEST(Cbor, DepthAndItemsAreBounded) {
  EXPECT_TRUE(is_plain_cbor(std::string(recording::max_record_depth, '\x81') + '\x80'));
  EXPECT_FALSE(is_plain_cbor(std::string(recording::max_record_depth + 1, '\x81') +
                             std::string("\x81\x80")));
  EXPECT_FALSE(is_plain_cbor(std::string(50'000'000, '\x81')));
  EXPECT_FALSE(is_plain_cbor(std::string(50'000'000, '\xa1')));
  std::string many = "\x9a\x00\x20\x00\x00";
  many = std::string("\x9a\x00\x20\x00\x00", 5) + std::string(0x200000, '\x01');
  EXPECT_FALSE(is_plain_cbor(many));
}

// Each cut and each flipped bit of a record is refused, or read without looking past its end.
TEST(Cbor, DamageIsRefusedOrHarmless) {
  const std::string bytes = to_cbor(
      {{"calls",
        {{{"form", 1},
          {"count", 300},
          {"values", {{{"hash", nlohmann::json::binary(std::vector<std::uint8_t>(16))}}}}}}},
       {"record", "calls"}});
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    EXPECT_FALSE(is_plain_cbor(std::string(bytes).substr(0, i)));
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ 1 << bit);
      damaged.shrink_to_fit();
      if (is_plain_cbor(damaged))
        (void)to_json(CborItem(damaged))
            .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    }
  }
}

}  // namespace cw::testing
