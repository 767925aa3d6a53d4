#include "capture/level10/dump_capture.h"

#include <fstream>

#include "support/fixture.h"

namespace cw::testing {
namespace {

using level10::DumpCapture;

class DumpCaptureTest : public DatasetTest {
 protected:
  // Two steps of one wrapper, all four calls in one millisecond: names alone sort both plans first.
  void write_tied_steps(bool in_session) {
    for (const std::int64_t page : {10, 20}) {
      DumpCall plan = decode_plan(0xa, {0, 2}, {page, page + 1}), run = decode_run(0xa, 1);
      plan.in_session = run.in_session = in_session;
      writer_.write(plan);
      writer_.write(run);
    }
  }
  DumpWriter writer_{dumps(), 77};
};

TEST_F(DumpCaptureTest, SessionSettlesTheOrderWithinAMillisecond) {
  write_tied_steps(true);
  sanitize_dumps();
  const auto found = workloads(decode);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(stored(found[0], "kv_indices"), (Values{10, 11}));
  EXPECT_EQ(stored(found[1], "kv_indices"), (Values{20, 21}));
}

TEST_F(DumpCaptureTest, WithoutASessionNothingUncertainIsPaired) {
  write_tied_steps(false);
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "order_in_doubt"), 1u);
  EXPECT_EQ(count(outcome, "plan_in_doubt"), 2u);
  EXPECT_TRUE(workloads(decode).empty());
}

TEST_F(DumpCaptureTest, APartialSessionLeavesTheRestInDoubt) {
  write_tied_steps(true);
  const std::string session = read_text(dumps() / "session.jsonl");
  write_text(dumps() / "session.jsonl",
             session.substr(0, session.size() / 2));  // cut in the middle of a line
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "order_in_doubt"), 1u);
  EXPECT_TRUE(workloads(decode).empty());
}

TEST_F(DumpCaptureTest, TwoFoldersWithEqualProcessNumbersDoNotMix) {
  DumpWriter other(folder_ / "other", 77);
  writer_.write(decode_plan(0xa, {0, 2}, {10, 11}));
  other.write(decode_plan(0xa, {0, 2}, {20, 21}));
  writer_.tick();
  other.tick();
  writer_.write(decode_run(0xa, 1));
  other.write(decode_run(0xa, 1));
  std::filesystem::rename(folder_ / "other", dumps() / "../both_b");
  std::filesystem::rename(dumps(), folder_ / "both_a");
  std::filesystem::create_directories(dumps());
  std::filesystem::rename(folder_ / "both_a", dumps() / "a");
  std::filesystem::rename(folder_ / "both_b", dumps() / "b");
  sanitize_dumps();
  ASSERT_EQ(workloads(decode).size(), 2u);
}

TEST_F(DumpCaptureTest, OverlappingRootsCountOnce) {
  const std::string call = writer_.write(rmsnorm(1));
  writer_.write(rmsnorm(2));
  std::filesystem::create_directory_symlink(dumps(), folder_ / "link");
  EXPECT_EQ(DumpCapture::open({dumps(), dumps() / call, folder_ / "link", folder_.path()})->size(),
            2u);
  EXPECT_EQ(DumpCapture::open({dumps() / call})->size(), 1u);
}

TEST_F(DumpCaptureTest, DumpsBesideOtherFoldersAndBelowThem) {
  writer_.write(rmsnorm(1));
  DumpWriter nested(dumps() / "rank1", 78);
  nested.write(rmsnorm(2));
  EXPECT_EQ(DumpCapture::open({dumps()})->size(), 2u);
}

TEST_F(DumpCaptureTest, AClockSetBackIsSettledBySession) {
  writer_.tick(100);
  writer_.write(decode_plan(0xa, {0, 2}, {10, 11}));
  writer_.tick();
  writer_.write(decode_run(0xa, 1));
  writer_.tick(-60);
  writer_.write(decode_plan(0xa, {0, 2}, {20, 21}));
  writer_.tick();
  writer_.write(decode_run(0xa, 1));
  sanitize_dumps();
  ASSERT_EQ(workloads(decode).size(), 2u);
  EXPECT_EQ(stored(workloads(decode)[0], "kv_indices"), (Values{10, 11}));
}

TEST_F(DumpCaptureTest, ASkippedPlanLeavesItsRunsWithoutOne) {
  writer_.write(decode_plan(0xa, {0, 2}, {10, 11}));
  writer_.tick();
  writer_.skip_sequence(std::string(decode_class) + ".plan");
  writer_.tick();
  writer_.write(decode_run(0xa, 1));
  writer_.tick();
  writer_.write(decode_plan(0xa, {0, 2}, {30, 31}));
  writer_.tick();
  writer_.write(decode_run(0xa, 1));
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "plan_in_doubt"), 1u);
  EXPECT_EQ(count(outcome, "calls_missing"), 1u);
  ASSERT_EQ(workloads(decode).size(), 1u);
  EXPECT_EQ(stored(workloads(decode)[0], "kv_indices"), (Values{30, 31}));
}

TEST_F(DumpCaptureTest, ARecordWithoutItsFolder) {
  writer_.write(decode_plan(0xa, {0, 2}, {10, 11}));
  writer_.tick();
  const std::string lost = writer_.write(decode_plan(0xa, {0, 2}, {20, 21}));
  writer_.tick();
  writer_.write(decode_run(0xa, 1));
  std::filesystem::remove_all(dumps() / lost);
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "calls_missing"), 1u);
  EXPECT_EQ(count(outcome, "plan_in_doubt"), 1u);
}

TEST_F(DumpCaptureTest, AFolderWithoutItsRecord) {
  writer_.write(decode_plan(0xa, {0, 2}, {10, 11}));
  writer_.tick();
  const std::string damaged = writer_.write(decode_plan(0xa, {0, 2}, {20, 21}));
  writer_.tick();
  writer_.write(decode_run(0xa, 1));
  std::filesystem::remove(dumps() / damaged / "metadata.jsonl");
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "metadata_missing"), 1u);
  EXPECT_EQ(count(outcome, "plan_in_doubt"), 1u);
  EXPECT_TRUE(workloads(decode).empty());
}

TEST_F(DumpCaptureTest, CallsThatNeverReturnedCountAndAreNamed) {
  DumpCall call = rmsnorm(3);
  call.status = "inputs_saved";
  writer_.write(call);
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(count(outcome, "call_unfinished"), 1u);
  EXPECT_EQ(workloads("rmsnorm_h4096").size(), 1u);
}

TEST_F(DumpCaptureTest, WhereDumpsLieDoesNotMatter) {
  writer_.write(decode_plan(0xa, {0, 2}, {10, 11}));
  writer_.write(decode_run(0xa, 1));
  sanitize_dumps();
  const auto before = tree(trace());
  std::filesystem::remove_all(trace() / "workloads");
  std::filesystem::remove_all(trace() / "blob");
  std::filesystem::remove(trace() / "collection.json");
  std::filesystem::rename(dumps(), folder_ / "moved");
  std::filesystem::create_directories(dumps());
  std::filesystem::rename(folder_ / "moved", dumps() / "elsewhere");
  sanitize_dumps();
  EXPECT_EQ(tree(trace()), before);
}

TEST_F(DumpCaptureTest, ARecordOfAnotherFunctionIsSaid) {
  const std::string name = writer_.write(rmsnorm(3));
  std::string renamed = name;
  renamed.replace(renamed.find("rmsnorm"), 7, "fused_add_rmsnorm");
  std::filesystem::rename(dumps() / name, dumps() / renamed);
  EXPECT_EQ(count(sanitize_dumps(), "metadata_disagrees"), 1u);
}

TEST_F(DumpCaptureTest, NothingToRead) {
  EXPECT_EQ(DumpCapture::open({dumps()}).error().code, "no_dumps");
  EXPECT_EQ(DumpCapture::open({dumps() / "nowhere"}).error().code, "not_found");
}

}  // namespace
}  // namespace cw::testing
