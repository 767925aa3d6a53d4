#include "sanitize/storage_policy.h"

#include "support/fixture.h"

namespace cw::testing {
namespace {

class StoragePolicyTest : public DatasetTest {
 protected:
  nlohmann::json decode_under(const StoragePolicy& policy,
                              const DumpTensor& keys = {DType::bfloat16, {64, 8, 128}}) {
    DumpWriter writer(dumps(), 77);
    writer.write(decode_plan(0xa, {0, 2, 4}, {40, 7, 40, 9}));
    writer.tick();
    DumpCall run = decode_run(0xa, 2, {.pool = 64});
    run.arguments[1] = {"arg_2", DumpPair{keys, {DType::bfloat16, {64, 8, 128}}}};
    writer.write(run);
    SanitizeOptions options{.policy = policy, .selection = Selection::all};
    sanitize_dumps(options);
    return workloads(decode).at(0);
  }
};

TEST_F(StoragePolicyTest, PagesUpToTheHighestUsed) {
  EXPECT_EQ(decode_under({})["axes"]["num_pages"], 41);
}

TEST_F(StoragePolicyTest, TheWholePool) {
  EXPECT_EQ(decode_under({.num_pages = NumPages::pool})["axes"]["num_pages"], 64);
}

TEST_F(StoragePolicyTest, OnlyPagesInUseRenumbered) {
  const auto workload = decode_under({.num_pages = NumPages::compact});
  EXPECT_EQ(workload["axes"]["num_pages"], 3);
  EXPECT_EQ(stored(workload, "kv_indices"), (Values{2, 0, 2, 1}));
}

TEST_F(StoragePolicyTest, KeptValuesFollowThePages) {
  std::string bytes;
  for (int page = 0; page < 64; ++page) bytes += std::string(8 * 128 * 2, static_cast<char>(page));
  const auto workload = decode_under({.num_pages = NumPages::compact, .keep_values = {"k_cache"}},
                                     {DType::bfloat16, {64, 8, 128}, bytes});
  EXPECT_EQ(workload["inputs"]["k_cache"]["type"], "safetensors");
  const auto files = tree(trace() / "blob");
  ASSERT_EQ(files.size(), 1u);
  const std::string expected =
      std::string(2048, '\7') + std::string(2048, '\11') + std::string(2048, '\50');
  EXPECT_NE(files.begin()->second.find(expected), std::string::npos);
  EXPECT_EQ(workload["inputs"]["v_cache"]["type"], "random");
}

TEST_F(StoragePolicyTest, RandomBelowASize) {
  const auto workload = decode_under({.random_below = 100'000});
  EXPECT_EQ(workload["inputs"]["q"]["type"], "random");             // 16 KiB
  EXPECT_EQ(workload["inputs"]["k_cache"]["type"], "safetensors");  // 128 KiB
}

}  // namespace
}  // namespace cw::testing
