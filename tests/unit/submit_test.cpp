#include <cstdlib>
#include <type_traits>

#include <gtest/gtest.h>

#include "report/charts.h"
#include "report/markdown.h"
#include "submit/hub.h"
#include "submit/token.h"

namespace cw {
namespace {

TEST(Secret, CannotBeCopied) {
  static_assert(!std::is_copy_constructible_v<Secret> && !std::is_copy_assignable_v<Secret>);
  Secret secret(std::string("hf_abc"));
  Secret moved(std::move(secret));
  EXPECT_EQ(moved.reveal(), "hf_abc");
  EXPECT_TRUE(secret.is_empty());  // NOLINT: that is the point
}

TEST(Token, IsTakenOutOfTheEnvironment) {
  ::setenv("HF_TOKEN", "  hf_abc\n", 1);
  char* const place = std::getenv("HF_TOKEN");
  const auto token = find_token([](const std::string&) {});
  ASSERT_TRUE(token);
  EXPECT_EQ(token->secret.reveal(), "hf_abc");
  EXPECT_EQ(std::getenv("HF_TOKEN"), nullptr);
  EXPECT_EQ(*place, '\0') << "and wiped where it stood";
}

TEST(Web, UrlsInMessagesAreWithoutWhatSignsThem) {
  EXPECT_EQ(printable_url("https://u:p@host.example/a/b?X-Signature=s#f"),
            "https://host.example/a/b");
  EXPECT_EQ(printable_url("no url ?secret"), "no url ");
}

TEST(Web, Percent) {
  EXPECT_EQ(percent_encoded("refs/pr/1"), "refs%2Fpr%2F1");
  EXPECT_EQ(percent_encoded("a b/ü", "/"), "a%20b/%C3%BC");
}

TEST(Hub, GitBlobId) {
  // git hash-object of "hello\n" and of nothing
  EXPECT_EQ(git_blob_id("hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
  EXPECT_EQ(git_blob_id(""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}

TEST(Charts, TakeAnyNumbers) {
  // Nothing, one point, equal points, zeros, negative and huge numbers.
  EXPECT_EQ(scatter_chart("x", "y", {}), "");
  EXPECT_EQ(rank_chart({}), "");
  EXPECT_EQ(line_chart("x", "", {{0, 1}}), "");
  EXPECT_EQ(line_chart("x", "", {{1, 1}, {1, 2}}), "");
  for (const std::string& chart :
       {scatter_chart("x", "y", {{0, 0, 0, false}}),
        scatter_chart("x", "y", {{5, 5, 1, true}, {5, 5, 1, true}}),
        scatter_chart("<x>", "\"y\"",
                      {{-3, std::numeric_limits<std::int64_t>::max(), ~std::uint64_t{0}, false}}),
        rank_chart({0, 0}), rank_chart(std::vector<std::uint64_t>(5000, 7)), bar_chart("b", {}),
        bar_chart("b", {{"1", 0}}), funnel_chart({{"a", 0}}),
        line_chart("x", "", {{0, 0}, {1, 0}})}) {
    EXPECT_EQ(chart.find("nan"), std::string::npos) << chart;
    EXPECT_EQ(chart.find("inf"), std::string::npos) << chart;
    EXPECT_EQ(chart.find("<x>"), std::string::npos);
  }
  EXPECT_NE(scatter_chart("x", "y", {{5, 5, 1, true}, {5, 5, 1, true}}).find("2 workloads"),
            std::string::npos);
}

TEST(Markdown, NothingOfOthersIsMarkup) {
  EXPECT_EQ(escape_markdown("a|b<c>\n`d`"), "a\\|b&lt;c> \\`d\\`");
}

}  // namespace
}  // namespace cw
