#include "workload/distribution.h"

#include <numeric>
#include <random>

#include <gtest/gtest.h>

namespace cw {
namespace {

using Cells = std::map<Extents, std::uint64_t>;

std::int64_t below(std::int64_t limit, std::mt19937& random) {
  return static_cast<std::int64_t>(random()) % limit;
}

TEST(Histogram, FewExtentsAreExact) {
  Histogram histogram(64);
  for (const std::int64_t extent : {16, 1, 16, 1'000'003, 16}) histogram.add({extent}, 2);
  histogram.add({unknown_extent}, 5);
  EXPECT_EQ(histogram.cells(),
            (Cells{{{unknown_extent}, 5}, {{1}, 2}, {{16}, 6}, {{1'000'003}, 2}}));
  EXPECT_EQ(histogram.calls(), 15u);
  EXPECT_EQ(histogram.last_of(1'000'003), 1'000'003);
}

TEST(Histogram, ManyExtentsBecomeRangesAndNoCallIsLost) {
  Histogram histogram(64);
  for (std::int64_t extent = 0; extent < 5000; ++extent) histogram.add({extent}, 1);
  EXPECT_LE(histogram.cells().size(), 64u);
  EXPECT_EQ(histogram.calls(), 5000u);
  // Each range holds what lies in it: they touch, and their counts are their widths.
  std::int64_t next = 0;
  for (const auto& [extents, calls] : histogram.cells()) {
    EXPECT_EQ(extents[0], next);
    EXPECT_EQ(histogram.first_of(histogram.last_of(next)), next);
    next = histogram.last_of(next) + 1;
    if (next <= 5000) {
      EXPECT_EQ(calls, static_cast<std::uint64_t>(next - extents[0]));
    }
  }
}

// The order of calls does not matter, nor what was joined first.
TEST(Histogram, OrderAndGroupingDoNotMatter) {
  std::mt19937 random(7);
  std::vector<Extents> calls;
  for (int i = 0; i < 3000; ++i)
    calls.push_back(
        {below(300, random), below(9, random) == 0 ? unknown_extent : below(1'000'000, random)});
  const auto make = [](auto begin, auto end) {
    Histogram histogram(100);
    for (; begin != end; ++begin) histogram.add(*begin, 1);
    return histogram;
  };
  const Histogram all = make(calls.begin(), calls.end());
  EXPECT_EQ(make(calls.rbegin(), calls.rend()), all);
  for (const int cut : {1, 50, 1500, 2999}) {
    Histogram left = make(calls.begin(), calls.begin() + cut),
              right = make(calls.begin() + cut, calls.end());
    Histogram reverse = right;
    left.join(right);
    reverse.join(make(calls.begin(), calls.begin() + cut));
    EXPECT_EQ(left, all);
    EXPECT_EQ(reverse, all);
  }
  EXPECT_EQ(all.calls(), 3000u);
  const auto read = Histogram::from_json(all.to_json(), 2, 100);
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, all);
}

TEST(Histogram, OfEveryLengthThereIs) {
  Histogram histogram(64);
  for (int bits = 0; bits < 63; ++bits)
    for (const std::int64_t near : {-1, 0, 1}) {
      const std::int64_t extent = (std::int64_t{1} << bits) + near;
      histogram.add({extent, extent / 3}, 1);
    }
  histogram.add({INT64_MAX, 0}, 1);
  EXPECT_EQ(histogram.calls(), 190u);
  EXPECT_LE(histogram.cells().size(), 64u);
  EXPECT_LE(histogram.last_of(INT64_MAX), INT64_MAX);
}

TEST(Histogram, WhatIsNoHistogramIsNotRead) {
  for (const char* text :
       {"[]", "{}", R"({"calls": 3})", R"({"calls": [[1]]})", R"({"calls": [[1, -2]]})",
        R"({"calls": [[-1, 2]]})", R"({"calls": [["a", 2]]})", R"({"calls": [[1, 2, 3]]})"})
    EXPECT_FALSE(Histogram::from_json(*parse_json(text), 1, 100)) << text;
  EXPECT_TRUE(Histogram::from_json(*parse_json(R"({"calls": [[1, 2]], "level": 99})"), 1, 100));
}

Distribution decode() {
  return Distribution({"batch_size", "num_pages", "num_kv_indices"}, {0, 2});
}

TEST(Distribution, AShapeIsWhatACallShowsWithoutValues) {
  Distribution distribution = decode();
  distribution.add({2, 100, 30}, 4);
  distribution.add({2, unknown_extent, 30}, 36);
  EXPECT_EQ(distribution.of_shapes.cells(), (Cells{{{2, 30}, 40}}));
  EXPECT_EQ(distribution.of_axes[1].cells(), (Cells{{{unknown_extent}, 36}, {{100}, 4}}));
  const auto read = Distribution::from_json(distribution.to_json(128, 256));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->var_axes, distribution.var_axes);
  EXPECT_EQ(read->shape, distribution.shape);
  EXPECT_EQ(read->of_shapes, distribution.of_shapes);
}

TEST(Distribution, JoinsWithItsLikeOnly) {
  Distribution one = decode(), two = decode(), other({"seq_len"}, {0});
  one.add({1, 5, 5}, 1);
  two.add({1, 6, 6}, 2);
  other.add({9}, 9);
  one.join(two);
  one.join(other);
  EXPECT_EQ(one.of_shapes.calls(), 3u);
  EXPECT_EQ(one.of_axes[0].cells(), (Cells{{{1}, 3}}));
}

std::uint64_t sum(const std::vector<std::uint64_t>& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), std::uint64_t{0});
}

TEST(ShareCalls, AmongThoseOfAShapeAsOftenAsEachWasSeen) {
  Histogram shapes(64);
  shapes.add({16, 700}, 3840);
  shapes.add({1, 40}, 100);
  EXPECT_EQ(share_calls(shapes, {{{16, 700}, 32}, {{16, 700}, 32}, {{1, 40}, 1}}),
            (std::vector<std::uint64_t>{1920, 1920, 100}));
  EXPECT_EQ(share_calls(shapes, {{{16, 700}, 96}, {{16, 700}, 32}, {{1, 40}, 1}}),
            (std::vector<std::uint64_t>{2880, 960, 100}));
}

TEST(ShareCalls, OfAShapeWithoutOneTheOctaveThenTheNearest) {
  Histogram shapes(64);
  shapes.add({16, 700}, 10);   // itself
  shapes.add({17, 900}, 7);    // the same octaves
  shapes.add({200, 9000}, 3);  // nearer to the second
  EXPECT_EQ(share_calls(shapes, {{{16, 700}, 1}, {{128, 5000}, 1}}),
            (std::vector<std::uint64_t>{17, 3}));
}

TEST(ShareCalls, AddsUpWhateverIsRounded) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    Histogram shapes(64);
    std::vector<Representative> kept;
    for (int i = 0; i < 30; ++i)
      shapes.add({below(64, random), below(5000, random)}, random() % 1000 + 1);
    for (std::int64_t i = below(20, random); i >= 0; --i)
      kept.push_back({{below(64, random), below(5000, random)}, random() % 7});
    EXPECT_EQ(sum(share_calls(shapes, kept)), shapes.calls());
  }
  EXPECT_TRUE(share_calls(Histogram(64), {}).empty());
  Histogram many(64);
  many.add({1}, std::uint64_t{1} << 62);
  EXPECT_EQ(sum(share_calls(many, {{{1}, std::uint64_t{1} << 60}, {{1}, 3}, {{1}, 0}})),
            std::uint64_t{1} << 62);
}

}  // namespace
}  // namespace cw
