#include "collect/timeline.h"

#include <gtest/gtest.h>

namespace cw {
namespace {

TEST(Timeline, StaysSmallAndInOrderHoweverLongTheRun) {
  Timeline timeline;
  for (int i = 0; i < 400'000; ++i)
    timeline.add({.seconds = i * 0.05, .requests = static_cast<std::uint64_t>(i)});
  timeline.finish({.seconds = 20'000, .requests = 400'000});
  const Json json = timeline.record().to_json();
  const Json& samples = json.at("samples");
  EXPECT_LE(samples.size(), 201u);
  EXPECT_GE(samples.size(), 100u);
  EXPECT_EQ(samples.front()[0], 0.0);
  EXPECT_EQ(samples.back()[1], 400'000);
  const double even = 20'000.0 / static_cast<double>(samples.size());
  for (std::size_t i = 1; i + 1 < samples.size(); ++i) {
    const double step = samples[i][0].get<double>() - samples[i - 1][0].get<double>();
    EXPECT_GT(step, even / 3);
    EXPECT_LT(step, even * 3);
  }
}

TEST(Timeline, LeavesOutWhatComesTooEarly) {
  Timeline timeline;
  for (const double seconds : {0.0, 0.1, 0.2, 0.3, 0.31, 0.6}) timeline.add({.seconds = seconds});
  EXPECT_EQ(timeline.record().to_json().at("samples").size(), 3u);
}

}  // namespace
}  // namespace cw
