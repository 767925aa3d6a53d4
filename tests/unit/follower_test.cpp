#include "capture/level10/follower.h"

#include "capture/level10/method.h"
#include "sanitize/retained_workloads.h"
#include "sanitize/watch.h"
#include "support/fixture.h"

namespace cw::testing {

using level10::DumpCapture;
using level10::Follower;

class FollowerTest : public DatasetTest {
 protected:
  FollowerTest() : writer_(dumps(), 7) {}

  std::unique_ptr<Watcher> watcher(bool keeps_dumps = false) {
    datasets_.push_back(std::make_unique<Dataset>(Dataset::open(trace()).value()));
    return Watcher::create({dumps(), &level10::dump_method(), keeps_dumps, folder_ / "checkpoint"},
                           *datasets_.back(), bindings_, {.selection = Selection::all})
        .value();
  }
  void write_step(std::int64_t page) {
    writer_.write(decode_plan(0xa, {0, 2}, {page, page + 1}));
    writer_.tick();
    for (int layer = 0; layer < 3; ++layer) {
      writer_.write(decode_run(0xa, 1));
      writer_.tick();
    }
  }
  std::size_t folders() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(dumps()))
      count += entry.is_directory();
    return count;
  }
  DumpWriter writer_;
};

TEST_F(FollowerTest, WhatIsDealtWithIsDeletedAtOnce) {
  const auto watching = watcher();
  for (int step = 0; step < 5; ++step) {
    write_step(10 * step);
    ASSERT_TRUE(watching->poll());
    EXPECT_LE(folders(), 1u) << "only the plan that later runs may need";
  }
  const auto outcome = watching->finish();
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->survey.calls, 20u);
  EXPECT_EQ(workloads(decode).size(), 5u);
  EXPECT_EQ(stored(workloads(decode)[0], "kv_indices").size(), 2u);
}

// The same bytes as when all dumps lie there in the end.
TEST_F(FollowerTest, GivesWhatSanitizeGives) {
  for (int step = 0; step < 4; ++step) write_step(10 * step);
  const auto watching = watcher(true);
  ASSERT_TRUE(watching->finish());
  const auto watched = tree(trace() / "workloads");
  const auto blobs = tree(trace() / "blob");
  std::filesystem::remove_all(trace() / "workloads");
  std::filesystem::remove_all(trace() / "blob");
  sanitize_dumps();
  EXPECT_EQ(watched, tree(trace() / "workloads"));
  EXPECT_EQ(blobs, tree(trace() / "blob"));
  EXPECT_EQ(folders(), 16u);
}

// FlashInfer goes on numbering where it keeps no call, past its limits or when a save fails.
TEST_F(FollowerTest, CallsWithoutAFolderHaveTheSameNamesAndNumbers) {
  std::vector<std::string> names;
  for (int step = 0; step < 4; ++step) {
    names.push_back(writer_.write(decode_plan(0xa, {0, 2}, {10 * step, 10 * step + 1})));
    writer_.tick();
    names.push_back(writer_.write(decode_run(0xa, 1)));
    writer_.tick();
  }
  const auto numbers = [](const SanitizeOutcome& outcome) {
    std::map<std::string, std::uint64_t> all{{"calls", outcome.survey.calls}};
    for (const auto& [key, item] : outcome.survey.tally.items())
      all[key.code + " " + key.function] += item.count;
    return all;
  };
  for (const std::size_t gone : {4, 3, 7}) std::filesystem::remove_all(dumps() / names[gone]);
  const auto watched = numbers(watcher(true)->finish().value());
  EXPECT_EQ(watched.count("calls_missing "), 1u);
  EXPECT_EQ(watched.count("plan_in_doubt BatchDecodeWithPagedKVCacheWrapper.run"), 1u);
  const auto lines = tree(trace() / "workloads");
  std::filesystem::remove_all(trace() / "workloads");
  std::filesystem::remove_all(trace() / "blob");
  EXPECT_EQ(numbers(sanitize_dumps()), watched);
  EXPECT_EQ(tree(trace() / "workloads"), lines);
}

TEST_F(FollowerTest, ACallIsGivenOnceItIsComplete) {
  auto capture = DumpCapture::follow(dumps(), Disposal::keep).value();
  Follower follower(dumps(), capture, Disposal::keep);
  DumpCall call = rmsnorm(1);
  call.status = "inputs_saved";
  writer_.write(call);
  ASSERT_TRUE(follower.poll());
  EXPECT_EQ(capture.size(), 0u);
  EXPECT_EQ(follower.pending(), 1u);
  ASSERT_TRUE(follower.finish());
  EXPECT_EQ(capture.size(), 1u);
}

// One that raised does not hold up those after it for ever.
TEST_F(FollowerTest, ACallThatNeverReturnsIsPassed) {
  auto capture = DumpCapture::follow(dumps(), Disposal::keep).value();
  Follower follower(dumps(), capture, Disposal::keep);
  DumpCall call = rmsnorm(1);
  call.status = "inputs_saved";
  writer_.write(call);
  for (int i = 0; i < 20; ++i) {
    writer_.tick();
    writer_.write(rmsnorm(2));
  }
  ASSERT_TRUE(follower.poll());
  EXPECT_EQ(capture.size(), 21u);
}

TEST_F(FollowerTest, CallsThatSessionDoesNotNameComeInTheEnd) {
  DumpCall call = rmsnorm(1);
  call.in_session = false;
  writer_.write(call);
  const auto watching = watcher();
  ASSERT_TRUE(watching->poll());
  EXPECT_EQ(watching->sanitizer().calls(), 0u);
  EXPECT_EQ(watching->finish().value().survey.calls, 1u);
}

TEST_F(FollowerTest, AHalfWrittenDumpCostsItself) {
  write_step(5);
  writer_.write_half(rmsnorm(3));
  const auto watching = watcher();
  const auto outcome = watching->finish();
  ASSERT_TRUE(outcome);
  EXPECT_EQ(count(*outcome, "metadata_malformed"), 1u);
  EXPECT_EQ(workloads(decode).size(), 1u);
}

TEST_F(FollowerTest, AnEmptyFolderGivesNothing) {
  const auto watching = watcher();
  ASSERT_TRUE(watching->poll());
  EXPECT_EQ(watching->finish().value().survey.calls, 0u);
}

// Only as many as may be selected, spread over the octaves of the axes.
TEST(StashTest, IsBoundedAndSpread) {
  const Definition definition = [] {
    Definition d;
    d.name = "d";
    d.axes = {{"n", std::nullopt}};
    return d;
  }();
  Target target{&definition, {}};
  RetainedWorkloads retained(8);
  for (std::uint64_t i = 0; i < 1000; ++i) {
    Workload workload;
    workload.definition = &definition;
    workload.axes = {static_cast<std::int64_t>(i < 990 ? 1 : std::int64_t{1} << (i - 985))};
    retained.add(&target, {0, i}, std::move(workload));
  }
  std::size_t kept = 0, rare = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    kept += retained.find(&target, {0, i}) != nullptr;
    rare += i >= 990 && retained.find(&target, {0, i}) != nullptr;
  }
  EXPECT_EQ(kept, 8u);
  EXPECT_GE(rare, 7u);
}

}  // namespace cw::testing
