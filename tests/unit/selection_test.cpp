#include "workload/selection.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include <gtest/gtest.h>

namespace cw {
namespace {

std::vector<Candidate> candidates(
    const std::vector<std::pair<std::vector<std::int64_t>, std::uint64_t>>& rows) {
  std::vector<Candidate> result;
  for (const auto& [var_axes, calls] : rows) result.push_back({var_axes, calls});
  return result;
}

TEST(Selection, FewAreAllKept) {
  EXPECT_EQ(select_diverse(candidates({{{1}, 1}, {{2}, 1}}), 2), (std::vector<std::size_t>{0, 1}));
}

TEST(Selection, TheMostFrequentOfACellComesFirst) {
  // Three of one size, one of another: both sizes, and of the first its most frequent.
  EXPECT_EQ(select_diverse(candidates({{{100}, 1}, {{100}, 9}, {{100}, 3}, {{5000}, 1}}), 2),
            (std::vector<std::size_t>{1, 3}));
  EXPECT_EQ(select_diverse(candidates({{{100}, 1}, {{100}, 9}, {{100}, 3}, {{5000}, 1}}), 3),
            (std::vector<std::size_t>{1, 2, 3}));
}

TEST(Selection, SpreadsOverOctavesHoweverUnevenTheTraffic) {
  std::vector<std::pair<std::vector<std::int64_t>, std::uint64_t>> rows;
  for (std::int64_t i = 0; i < 1000; ++i) rows.push_back({{4, 1000 + i}, 100});
  for (std::int64_t batch = 1; batch <= 256; batch *= 2) rows.push_back({{batch, 64 * batch}, 1});
  std::sort(rows.begin(), rows.end());
  const auto all = candidates(rows);
  const auto chosen = select_diverse(all, 32);
  EXPECT_EQ(chosen.size(), 32u);
  std::set<std::int64_t> batches;
  for (const std::size_t i : chosen) batches.insert(all[i].var_axes[0]);
  EXPECT_EQ(batches.size(), 9u);
}

TEST(Selection, MoreCellsThanPlaces) {
  std::vector<std::pair<std::vector<std::int64_t>, std::uint64_t>> rows;
  for (std::int64_t i = 0; i < 60; ++i) rows.push_back({{std::int64_t{1} << i}, 1});
  const auto chosen = select_diverse(candidates(rows), 4);
  ASSERT_EQ(chosen.size(), 4u);
  EXPECT_GE(chosen.back() - chosen.front(), 32u);
}

TEST(Selection, ZeroAndHugeExtents) {
  EXPECT_EQ(select_diverse(candidates({{{0}, 1}, {{INT64_MAX}, 1}, {{0}, 2}}), 1).size(), 1u);
}

}  // namespace
}  // namespace cw
