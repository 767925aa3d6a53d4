#include "dataset/merge_records.h"

#include <gtest/gtest.h>

namespace cw {
namespace {

TEST(MergeRecords, ComeBackAsTheyWere) {
  const InputLine line = InputLine::decode(
      InputLine{"content", "id", 1, 2, {.input = 3, .offset = 4, .size = 5}, {6, 7}}.encode());
  EXPECT_EQ(line.content, "content");
  EXPECT_EQ(line.id, "id");
  EXPECT_EQ(line.line_hash, 1U);
  EXPECT_EQ(line.blobs_hash, 2U);
  EXPECT_EQ(line.place.input, 3U);
  EXPECT_EQ(line.place.offset, 4U);
  EXPECT_EQ(line.place.size, 5U);
  EXPECT_EQ(line.var_axes, (std::vector<std::int64_t>{6, 7}));

  const DistinctLine distinct = DistinctLine::decode(
      DistinctLine{{6, 7}, "content", {.input = 3, .offset = 4, .size = 5}, "id"}.encode(), 2);
  EXPECT_EQ(distinct.var_axes, (std::vector<std::int64_t>{6, 7}));
  EXPECT_EQ(distinct.content, "content");
  EXPECT_EQ(distinct.place.size, 5U);
  EXPECT_EQ(distinct.id, "id");

  const SeenItem seen = SeenItem::decode(SeenItem{"definition", "id", 1, 2, "{}"}.encode());
  EXPECT_EQ(seen.definition, "definition");
  EXPECT_EQ(seen.id, "id");
  EXPECT_EQ(seen.input, 1U);
  EXPECT_EQ(seen.section, 2U);
  EXPECT_EQ(seen.json, "{}");

  const ListedItem listed =
      ListedItem::decode(ListedItem{"capture", "definition", "id", "{}"}.encode());
  EXPECT_EQ(listed.capture, "capture");
  EXPECT_EQ(listed.definition, "definition");
  EXPECT_EQ(listed.id, "id");
  EXPECT_EQ(listed.json, "{}");
}

// Field by field: a text that begins like another one is the lesser, whatever follows it.
TEST(MergeRecords, SortByOneFieldAfterTheOther) {
  EXPECT_LT((RenamedId{"a", "z"}.encode()), (RenamedId{"aa", "b"}.encode()));
  EXPECT_LT((UsedId{"a", "b", "z"}.encode()), (UsedId{"a", "c", "a"}.encode()));
  EXPECT_LT((DistinctLine{{2, 900}, "z", {}, ""}.encode()),
            (DistinctLine{{10, 1}, "a", {}, ""}.encode()));
  EXPECT_LT((SeenItem{"a", "b", 255, 9, ""}.encode()), (SeenItem{"a", "b", 256, 0, ""}.encode()));
}

}  // namespace
}  // namespace cw
