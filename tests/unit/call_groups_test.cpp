#include "capture/recorder/call_groups.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "capture/recorder/cbor.h"

namespace cw::recording {
namespace {

using Json = nlohmann::json;  // the recorder's, with members sorted by name

std::string cbor(const Json& json) {
  std::string bytes;
  Json::to_cbor(json, bytes);
  return bytes;
}

Json values(std::uint32_t tensor, const char* state, bool has_hash) {
  Json json = {{"tensor", tensor}, {"count", 70'000}, {"state", state}};
  if (has_hash) json["hash"] = Json::binary(std::vector<std::uint8_t>(16, 0xab));
  return json;
}

// A group with every member, one with those that are always there, and some in between.
Json groups() {
  Json from = values(2, "lost", true);
  from["from"] = 12;
  Json packed = values(3, "sampled_out", false);
  packed["packed"] = true;
  return Json::array({{{"form", 7},
                       {"count", 1'000'000'000'000},
                       {"wrapper", 300},
                       {"plan", 12},
                       {"raised", 2},
                       {"sequences", 0},
                       {"dummy", true},
                       {"nested", true},
                       {"replayed", true},
                       {"addresses", {0, 140'000'000'000'000, 23}},
                       {"values",
                        {values(0, "kept", true), values(1, "sampled_out", true), std::move(from),
                         std::move(packed)}}},
                      {{"form", 0}, {"count", 1}},
                      {{"form", 1},
                       {"count", 3},
                       {"raised", 9},
                       {"values", Json::array({values(0, "lost", false)})}}});
}

std::string record(const Json& calls) {
  return cbor({{"at", 123'456'789}, {"calls", calls}, {"record", "calls"}});
}

// Everything of them, but for where they are.
std::string text_of(const CallGroups& all) {
  std::string text;
  for (const CallGroup& g : all.groups) {
    text += fmt::format("{} {} {} {} {} {}{}{}{} {}+{}:", g.signature, g.wrapper, g.count, g.raised,
                        g.sequences, g.is_dummy, g.is_nested, g.is_replayed, g.is_malformed,
                        g.begin, g.size);
    for (const std::uint64_t address : addresses_of(g, all)) text += fmt::format(" {}", address);
    for (const CallValues& v : values_of(g, all))
      text += fmt::format(" [{} {:x}{:x} {} {} {} {}]", v.tensor, v.hash.high, v.hash.low, v.from,
                          v.count, static_cast<int>(v.state), v.is_packed);
    text += "\n";
  }
  for (const std::string& wrong : all.wrong) text += wrong + "\n";
  return text;
}

std::string parsed(const std::string& payload) {
  CallGroups all;
  EXPECT_TRUE(is_plain_cbor(payload));
  parse_calls(payload, all);
  return text_of(all);
}

TEST(CallGroups, TheRecordersFormIsDecodedAsAnyFormIsParsed) {
  const std::string payload = record(groups());
  ASSERT_TRUE(looks_like_calls(payload));
  CallGroups decoded;
  ASSERT_TRUE(decode_calls(payload, decoded));
  EXPECT_EQ(decoded.groups.size(), 3u);
  EXPECT_EQ(text_of(decoded), parsed(payload));

  // A second record follows the first.
  ASSERT_TRUE(decode_calls(payload, decoded));
  EXPECT_EQ(decoded.groups.size(), 6u);
  EXPECT_EQ(addresses_of(decoded.groups[3], decoded).size(), 3u);
  EXPECT_EQ(values_of(decoded.groups[3], decoded)[2].from, 12u);
  EXPECT_TRUE(values_of(decoded.groups[3], decoded)[3].is_packed);
}

// What is decoded at all is decoded as it is parsed, whatever single byte has changed.
TEST(CallGroups, OtherBytesGiveTheSameOrAreLeftToTheParser) {
  const std::string whole = record(groups());
  std::size_t decodable = 0;
  for (std::size_t at = 0; at < whole.size(); ++at)
    for (const int change : {1, 0x20, 0x80}) {
      std::string payload = whole;
      payload[at] = static_cast<char>(payload[at] ^ change);
      CallGroups decoded;
      if (!decode_calls(payload, decoded)) {
        EXPECT_TRUE(decoded.groups.empty() && decoded.values.empty() && decoded.addresses.empty());
        continue;
      }
      ++decodable;
      EXPECT_EQ(text_of(decoded), parsed(payload)) << "byte " << at << " ^ " << change;
    }
  EXPECT_GT(decodable, 20u) << "numbers may be anything";
}

TEST(CallGroups, OtherFormsAreLeftToTheParser) {
  // {"count": 1, "form": 0} with the members in the other order.
  const std::string sorted = cbor({{"count", 1}, {"form", 0}});
  const std::string turned = sorted.substr(0, 1) + sorted.substr(8) + sorted.substr(1, 7);
  std::string payload = record(Json::array({Json{{"count", 1}, {"form", 0}}}));
  payload.replace(payload.find(sorted), sorted.size(), turned);
  CallGroups decoded;
  EXPECT_FALSE(decode_calls(payload, decoded));
  EXPECT_EQ(parsed(payload).substr(0, 8), "0 0 1 0 ");

  // A member that nobody knows, and one that is malformed.
  EXPECT_FALSE(
      decode_calls(record(Json::array({Json{{"count", 1}, {"form", 0}, {"later", 1}}})), decoded));
  const std::string bad = record(Json::array({Json{{"count", 1}, {"form", "none"}}}));
  EXPECT_FALSE(decode_calls(bad, decoded));
  EXPECT_NE(parsed(bad).find("wrong type"), std::string::npos);
}

TEST(CallGroups, AGroupIsFoundWhereItIs) {
  const std::string payload = record(groups());
  CallGroups all;
  ASSERT_TRUE(decode_calls(payload, all));
  for (CallGroup& group : all.groups) {
    CallGroups alone;
    ASSERT_TRUE(parse_group(payload.substr(group.begin, group.size), alone));
    EXPECT_EQ(alone.groups.at(0).signature, group.signature);
    EXPECT_EQ(alone.groups[0].count, group.count);
  }
}

}  // namespace
}  // namespace cw::recording
