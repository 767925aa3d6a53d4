#include "verify/verify.h"

#include <gtest/gtest.h>

namespace cw {
namespace {

bool has_no_outputs(const std::string&) {
  return false;
}
std::string decided(const std::string&) {
  return {};
}

TEST(Replay, IsReadAsFlashInferPrintsIt) {
  // Lines of FlashInfer 0.6.15.post1 on an H100; the failing ones as its source words them.
  const auto replay = parse_replay(
      "Replaying session from /tmp/dumps...\n"
      "[1] Decode.__init__ (20261125_135358_306_pid837_Decode.__init___call0001): ✅ Passed\n"
      "[2] Decode.run (20261125_135402_396_pid837_Decode.run_call0001): ✅ Passed\n"
      "[3] Decode.run (20261125_135402_397_pid837_Decode.run_call0002): ⚠️  Mismatch\n"
      "[4] Ragged.run (20261125_135402_398_pid837_Ragged.run_call0001): ⚠️  Mismatch\n"
      "[5] silu (20261125_135402_399_pid837_silu_call0001): ❌ Error: bad (file): none\n"
      "[6] norm (20261125_135402_400_pid837_norm_call0003): ⚠️  Mismatch\n"
      "\nSummary: 2 passed, 4 failed/mismatch\n",
      [](const std::string& name) {
        return name == "20261125_135402_396_pid837_Decode.run_call0001";
      },
      [](const std::string& name) { return name.ends_with("call0003") ? "it holds NaN" : ""; });
  ASSERT_TRUE(replay) << replay.error().message;
  EXPECT_EQ(replay->dumps, 6u);
  EXPECT_EQ(replay->undecided, 1u);
  EXPECT_EQ(replay->reasons, (std::map<std::string, std::size_t>{{"it holds NaN", 1}}));
  EXPECT_EQ(replay->passed, 2u);
  EXPECT_EQ(replay->compared, 1u);
  EXPECT_EQ(replay->failed, 2u);
  EXPECT_EQ(replay->skipped, 1u) << "the constructor of Ragged is not there";
  ASSERT_EQ(replay->failures.size(), 2u);
  EXPECT_NE(replay->failures[1].find("Error: bad (file): none"), std::string::npos);
}

TEST(Replay, ThatDidNotEndIsAnError) {
  for (const char* output :
       {"", "❌ Replay failed: no CUDA\n", "[1] x (y): ✅ Passed\n", "[", "[] ): \n", "[1] ): \n"})
    EXPECT_FALSE(parse_replay(output, has_no_outputs, decided)) << output;
  const auto odd =
      parse_replay("[] ): \n[1] ): Passed\n[2] (): Passed\nSummary: \n", has_no_outputs, decided);
  EXPECT_TRUE(odd);
}

}  // namespace
}  // namespace cw
