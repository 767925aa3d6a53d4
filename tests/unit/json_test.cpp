#include "base/json.h"

#include <gtest/gtest.h>

#include "support/fixture.h"

namespace cw::testing {

TEST(ParseJson, IsWhatTheLibraryReads) {
  for (const char* text :
       {"{}", "[]", "1", "-5", "1.5e3", "\"a\\u00e9\"", "null", "true",
        R"({"a": [1, {"b": null}], "c": {"d": []}})", R"({"a": 1, "a": 2, "b": 3})",
        R"([18446744073709551615, -9223372036854775808])"}) {
    const auto json = parse_json(text);
    ASSERT_TRUE(json) << text;
    EXPECT_EQ(dump(*json), dump(Json::parse(text))) << text;
  }
  for (const char* text : {"", "{", "[1,]", "{\"a\"}", "NaN", "\"\xff\"", "{} {}", "[1 2]"})
    EXPECT_FALSE(parse_json(text)) << text;
}

TEST(ParseJson, DepthAndItemsAreBounded) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_TRUE(parse_json(nested(64)));
  EXPECT_FALSE(parse_json(nested(65)));
  EXPECT_FALSE(parse_json(std::string(1'000'000, '[')));
  EXPECT_TRUE(parse_json("[1,2,3]", {.depth = 4, .items = 4}));
  EXPECT_FALSE(parse_json("[1,2,3,4]", {.depth = 4, .items = 4}));
}

// The library's ordered map compares each key with all before it: these would take a minute.
// Eight times the keys take eight times as long, not 64 times.
TEST(ParseJson, ManyKeysCostNoMoreThanTheirSize) {
  const auto cost = [](int keys) {
    std::string text = "{";
    for (int i = 0; i < keys; ++i) text += fmt::format("\"key {}\":{},", i, i);
    text += "\"key 7\":\"last\"}";
    const std::clock_t begin = std::clock();
    const auto json = parse_json(text);
    const std::clock_t time = std::clock() - begin;

    EXPECT_EQ(json->size(), static_cast<std::size_t>(keys));
    EXPECT_EQ(json->at("key 7"), "last");
    EXPECT_EQ(json->begin().key(), "key 0");
    return static_cast<double>(time);
  };
  EXPECT_LT(cost(200'000), 30 * cost(25'000));
}

TEST(ParseJson, AFileIsReadInPieces) {
  const TemporaryFolder folder;
  write_text(folder.path() / "f", R"({"a": [{"x": 1}, {"x": 2}], "b": {"x": 3}})");
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      std::fopen((folder.path() / "f").c_str(), "r"), std::fclose);
  std::vector<std::string> seen;
  const auto json =
      parse_json(file.get(),
                 [&](const std::vector<JsonPlace>& around, Json& object) {
                   if (around.empty() || around[0].key != "a") return true;
                   seen.push_back(fmt::format("{} {}", around[1].index, dump(object)));
                   return false;
                 },
                 {.depth = 64, .items = 6});
  ASSERT_TRUE(json);
  EXPECT_EQ(seen, (std::vector<std::string>{R"(0 {"x":1})", R"(1 {"x":2})"}));
  EXPECT_EQ(dump(*json), R"({"a":[],"b":{"x":3}})");
}

}  // namespace cw::testing
