#include "traffic/prompts.h"

#include <bit>

#include "support/fixture.h"

namespace cw::testing {

class PromptsTest : public ::testing::Test {
 protected:
  std::vector<Prompt> read(const std::string& content) {
    write_text(folder_ / "prompts", content);
    auto source = open_prompts(folder_ / "prompts");
    EXPECT_TRUE(source) << source.error().message;
    std::vector<Prompt> prompts;
    while (source) {
      auto prompt = (*source)->next();
      EXPECT_TRUE(prompt) << prompt.error().message;
      if (!prompt || !*prompt) break;
      prompts.push_back(std::move(**prompt));
    }
    if (source) warning_ = (*source)->warning();
    return prompts;
  }
  TemporaryFolder folder_;
  std::string warning_;
};

TEST_F(PromptsTest, ShareGpt) {
  const auto prompts = read(R"([{"id": "a", "conversations": [{"from": "human", "value": "brackets ]}[{ and \" quotes"},
    {"from": "gpt", "value": "12345678"}, {"from": "human", "value": "later"}]},
    {"id": "b", "conversations": [{"from": "gpt", "value": "it begins"}, {"from": "human", "value": "then I"}]}])");
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(prompts[0].text(), "brackets ]}[{ and \" quotes");
  EXPECT_EQ(prompts[0].output_tokens, 3);
  EXPECT_EQ(prompts[1].text(), "then I");
  EXPECT_EQ(warning_, "");
}

TEST_F(PromptsTest, AlpacaChatAndCustomLines) {
  const auto prompts = read(
      "{\"instruction\": \"Add\", \"input\": \"1 and 2\", \"output\": \"3\"}\n"
      "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief\"}, {\"role\": \"user\", \"content\": \"Hi\"}]}\n\n"
      "{\"prompt\": \"Tell\", \"output_tokens\": 77}\n{\"text\": \"Plain\"}\n");
  ASSERT_EQ(prompts.size(), 4u);
  EXPECT_EQ(prompts[0].text(), "Add\n\n1 and 2");
  EXPECT_EQ(prompts[1].messages[0].first, "system");
  EXPECT_EQ(prompts[2].output_tokens, 77);
  EXPECT_EQ(prompts[3].output_tokens, 0);
}

TEST_F(PromptsTest, AFileThatIsCutOffGivesItsWholeRecords) {
  const auto prompts = read(R"([{"prompt": "one"}, {"prompt": "two"}, {"prompt": "thr)");
  EXPECT_EQ(prompts.size(), 2u);
  EXPECT_NE(warning_.find("is cut off; its 2 whole records"), std::string::npos) << warning_;
}

TEST_F(PromptsTest, RecordsLongerThanABlock) {
  const std::string long_text(3 << 20, 'x');
  const auto prompts = read("[{\"prompt\": \"" + long_text + "\"}, {\"prompt\": \"short\"}]");
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(prompts[0].text().size(), long_text.size());
}

TEST_F(PromptsTest, RecordsWithoutAPromptAreCounted) {
  EXPECT_EQ(read("{\"prompt\": \"one\"}\n{\"other\": 1}\n{bad}\n").size(), 1u);
  EXPECT_NE(warning_.find("2 records"), std::string::npos) << warning_;
}

TEST_F(PromptsTest, WhatIsNoPromptFileIsSaid) {
  write_text(folder_ / "prompts", "just text");
  EXPECT_EQ(open_prompts(folder_ / "prompts").error().code, "prompts_malformed");
  write_text(folder_ / "prompts", "");
  EXPECT_EQ(open_prompts(folder_ / "prompts").error().code, "prompts_malformed");
  EXPECT_EQ(open_prompts(folder_ / "none").error().code, "not_found");
}

TEST_F(PromptsTest, RandomPromptsAreTheSameForASeed) {
  const RandomPrompts options{.input_low = 4, .input_high = 9, .output_low = 2, .output_high = 3, .seed = 5};
  const auto first = make_random_prompts(options), second = make_random_prompts(options);
  for (int i = 0; i < 50; ++i) {
    const auto a = first->next().value().value(), b = second->next().value().value();
    EXPECT_EQ(a.token_ids, b.token_ids);
    EXPECT_GE(a.token_ids.size(), 4u);
    EXPECT_LE(a.token_ids.size(), 9u);
    EXPECT_TRUE(a.output_tokens == 2 || a.output_tokens == 3);
  }
}

TEST(LogUniform, CoversOctavesAlikeAndStaysInRange) {
  std::mt19937_64 random(1);
  std::map<int, int> octaves;
  for (int i = 0; i < 7000; ++i) {
    const std::int64_t length = log_uniform(random, 1, 127);
    ASSERT_GE(length, 1);
    ASSERT_LE(length, 127);
    ++octaves[static_cast<int>(std::bit_width(static_cast<std::uint64_t>(length)))];
  }
  for (int octave = 1; octave <= 7; ++octave) EXPECT_NEAR(octaves[octave], 1000, 150) << octave;
  EXPECT_EQ(log_uniform(random, 5, 5), 5);
}

}  // namespace cw::testing
