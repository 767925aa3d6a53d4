#include "base/external_sort.h"

#include <algorithm>
#include <random>

#include "base/lines.h"
#include "support/fixture.h"

namespace cw::testing {
namespace {

std::vector<std::string> sorted(const std::vector<std::string>& records, std::size_t memory) {
  TemporaryFolder folder;
  ExternalSort sort(folder.path(), memory);
  for (const std::string& record : records) EXPECT_TRUE(sort.add(record));
  std::vector<std::string> result;
  for (auto next = sort.next(); next && *next; next = sort.next()) result.emplace_back(**next);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "temporary files have no names";
  return result;
}

TEST(ExternalSort, SameAsInMemory) {
  std::mt19937 random(7);
  std::vector<std::string> records;
  for (int i = 0; i < 5000; ++i) {
    std::string record(random() % 60, '\0');
    for (char& c : record)
      c = static_cast<char>(random() % 4 * 85);  // bytes past 127, zeros, many equal
    records.push_back(record);
  }
  std::vector<std::string> expected = records;
  std::sort(expected.begin(), expected.end(), [](const std::string& a, const std::string& b) {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(),
                                        [](unsigned char x, unsigned char y) { return x < y; });
  });
  EXPECT_EQ(sorted(records, 1 << 20), expected);
  EXPECT_EQ(sorted(records, 4096), expected);  // some hundred runs
}

TEST(ExternalSort, NothingAndRecordsLargerThanTheMemory) {
  EXPECT_TRUE(sorted({}, 100).empty());
  const std::string large(300'000, 'b');
  EXPECT_EQ(sorted({large, "c", "", "a", large}, 100),
            (std::vector<std::string>{"", "a", large, large, "c"}));
}

TEST(ExternalSort, AFolderThatCannotBeWritten) {
  ExternalSort sort("/nonexistent", 10);
  EXPECT_TRUE(sort.add("one record"));
  const auto second = sort.add("another");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, "unwritable");
}

TEST(LineReader, LinesWithTheirPlaces) {
  TemporaryFolder folder;
  const std::string longer(600'000, 'x');  // past what is read at once
  write_text(folder / "lines", "one\n\n  \t\ntwo\r\n" + longer + "\nlast");
  auto reader = LineReader::open(folder / "lines");
  std::vector<std::tuple<std::string, std::uint64_t, std::size_t>> lines;
  for (auto line = reader->next(); *line; line = reader->next())
    lines.emplace_back((*line)->text, (*line)->offset, (*line)->number);
  EXPECT_EQ(lines, (decltype(lines){
                       {"one", 0, 1}, {"two\r", 9, 4}, {longer, 14, 5}, {"last", 600'015, 6}}));
}

TEST(LineReader, EmptyAndMissing) {
  TemporaryFolder folder;
  write_text(folder / "empty", "");
  EXPECT_FALSE(*LineReader::open(folder / "empty")->next());
  EXPECT_EQ(LineReader::open(folder / "none").error().code, "not_found");
}

}  // namespace
}  // namespace cw::testing
