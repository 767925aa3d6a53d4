#include "base/parallel.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/result.h"

namespace cw {
namespace {

using Runner = Result<void> (*)(std::size_t, const ParallelTask&);

class Parallel : public ::testing::TestWithParam<Runner> {};

Result<void> on_four_threads(std::size_t count, const ParallelTask& task) {
  return run_on_threads(count, 4, task);
}

TEST_P(Parallel, EveryTaskRunsOnce) {
  std::vector<std::atomic<int>> runs(1000);
  const auto done = GetParam()(runs.size(), [&](std::size_t i) -> Result<void> {
    ++runs[i];
    return {};
  });
  EXPECT_TRUE(done);
  for (const auto& count : runs) EXPECT_EQ(count, 1);
}

TEST_P(Parallel, TheErrorIsThatOfTheLowestIndexHoweverLateItComes) {
  for (int round = 0; round < 20; ++round) {
    const auto done = GetParam()(64, [](std::size_t i) -> Result<void> {
      if (i == 7) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      if (i >= 7 && i % 2 == 1) return fail("failed", "{}", i);
      return {};
    });
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().message, "7");
  }
}

TEST_P(Parallel, AfterAFailureNothingHigherIsBegun) {
  std::atomic<std::size_t> begun = 0;
  const auto done = GetParam()(100'000, [&](std::size_t i) -> Result<void> {
    ++begun;
    if (i == 0) return fail("failed", "");
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    return {};
  });
  EXPECT_FALSE(done);
  EXPECT_LT(begun, 50'000U);
}

TEST_P(Parallel, NoTasksAreNoError) {
  EXPECT_TRUE(GetParam()(0, [](std::size_t) -> Result<void> { return fail("failed", ""); }));
}

INSTANTIATE_TEST_SUITE_P(Runners, Parallel, ::testing::Values(&run_in_parallel, &on_four_threads));

}  // namespace
}  // namespace cw
