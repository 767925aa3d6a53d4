#include "traffic/prompts.h"

#include <bit>

#include "support/fixture.h"

namespace cw::testing {

class PromptsTest : public ::testing::Test {
 protected:
  std::vector<Prompt> read(const std::string& content, Turns turns = Turns::first) {
    write_text(folder_ / "prompts", content);
    auto source = open_prompts({folder_ / "prompts"}, turns);
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
  // Of each prompt "role: content" of its messages.
  std::vector<std::string> spoken(const std::string& content, Turns turns = Turns::first) {
    std::vector<std::string> all;
    for (const Prompt& prompt : read(content, turns)) {
      std::string text;
      for (const Message& message : prompt.messages)
        text += fmt::format("{}{}: {}", text.empty() ? "" : " | ", message.role, message.content);
      all.push_back(std::move(text));
    }
    return all;
  }
  std::string refusal(const std::string& content) {
    write_text(folder_ / "prompts", content);
    const auto source = open_prompts({folder_ / "prompts"});
    return source ? "" : source.error().message;
  }
  TemporaryFolder folder_;
  std::string warning_;
};

TEST_F(PromptsTest, ShareGpt) {
  const auto prompts = read(
      R"([{"id": "a", "conversations": [{"from": "human", "value": "brackets ]}[{ and \" quotes"},
    {"from": "gpt", "value": "12345678"}, {"from": "human", "value": "later"}, {"from": "gpt", "value": "yes"}]},
    {"id": "b", "conversations": [{"from": "gpt", "value": "it begins"}, {"from": "human", "value": "then I"}]}])");
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(prompts[0].text(), "brackets ]}[{ and \" quotes");
  EXPECT_EQ(prompts[0].output_tokens, 3);
  EXPECT_EQ(prompts[1].text(), "then I");
  EXPECT_EQ(warning_,
            "1 × later turns not sent (--turns all sends each with what was said before)");
}

TEST_F(PromptsTest, AlpacaChatAndCustomLines) {
  const auto prompts = read(
      "{\"instruction\": \"Add\", \"input\": \"1 and 2\", \"output\": \"3\"}\n"
      "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief\"}, {\"role\": \"user\", "
      "\"content\": \"Hi\"}]}\n\n"
      "{\"prompt\": \"Tell\", \"output_tokens\": 77}\n{\"text\": \"Plain\"}\n");
  ASSERT_EQ(prompts.size(), 4u);
  EXPECT_EQ(prompts[0].text(), "Add\n\n1 and 2");
  EXPECT_EQ(prompts[1].messages[0].role, "system");
  EXPECT_EQ(prompts[2].output_tokens, 77);
  EXPECT_EQ(prompts[3].output_tokens, 0);
}

TEST_F(PromptsTest, AFileThatIsCutOffGivesItsWholeRecords) {
  const auto prompts = read(R"([{"prompt": "one"}, {"prompt": "two"}, {"prompt": "thr)");
  EXPECT_EQ(prompts.size(), 2u);
  EXPECT_NE(warning_.find("is cut off; its whole records are used"), std::string::npos) << warning_;
}

TEST_F(PromptsTest, RecordsLongerThanABlock) {
  const std::string long_text(3 << 20, 'x');
  const auto prompts = read("[{\"prompt\": \"" + long_text + "\"}, {\"prompt\": \"short\"}]");
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(prompts[0].text().size(), long_text.size());
}

TEST_F(PromptsTest, RecordsWithoutAPromptAreCounted) {
  EXPECT_EQ(read("{\"prompt\": \"one\"}\n{\"other\": 1}\n{bad}\n").size(), 1u);
  EXPECT_EQ(warning_, "1 record is not JSON and was skipped; 1 record holds no prompt");
}

TEST_F(PromptsTest, TheRestOfAFileAfterBrokenLines) {
  const std::vector<std::string> three{"user: ok one", "user: ok two", "user: ok three"};
  EXPECT_EQ(spoken("{\"prompt\":\"ok one\"}\nthis line is broken {\n{\"prompt\":\"ok "
                   "two\"}\n{\"prompt\":\"unfinished\n"
                   "{\"prompt\":\"ok three\"}\n"),
            three);
  EXPECT_EQ(warning_, "2 records are not JSON and were skipped");
  EXPECT_EQ(spoken("{\"prompt\":\"unfinished\n{\"prompt\":\"ok one\"}\n"),
            std::vector<std::string>{"user: ok one"});
  EXPECT_EQ(spoken("{\"prompt\":\"a\",\n{\"prompt\":\"ok one\"}"),
            std::vector<std::string>{"user: ok one"});
  EXPECT_EQ(spoken("{\"prompt\":\"ok one\"}\n{\"prompt\":\"cut o"),
            std::vector<std::string>{"user: ok one"});
  EXPECT_NE(warning_.find("is cut off"), std::string::npos) << warning_;
}

TEST_F(PromptsTest, AllThatIsSaidBeforeAQuestionIsSentWithIt) {
  const std::string history =
      R"({"messages":[{"role":"system","content":"Help."},{"role":"user","content":"Q1"},{"role":"assistant","content":"A1"},)"
      R"({"role":"user","content":"Q2"}],"max_tokens":300,"temperature":0.7,"top_p":0.9})";
  for (const Turns turns : {Turns::first, Turns::last, Turns::all})
    EXPECT_EQ(spoken(history, turns),
              std::vector<std::string>{"system: Help. | user: Q1 | assistant: A1 | user: Q2"});
  const auto prompts = read(history);
  EXPECT_EQ(prompts.at(0).output_tokens, 300);
  EXPECT_EQ(dump(prompts.at(0).sampling), R"({"temperature":0.7,"top_p":0.9})");
  EXPECT_EQ(warning_, "");

  // A tool's answer is the engine's turn as well; what the API has beside the text goes along.
  const auto tools = read(
      R"({"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]},)"
      R"({"role":"tool","tool_call_id":"1","content":"42"}],"tools":[{"type":"function"}]})");
  ASSERT_EQ(tools.size(), 1u);
  ASSERT_EQ(tools[0].messages.size(), 3u);
  EXPECT_EQ(dump(tools[0].messages[1].beside), R"({"tool_calls":[{"id":"1"}]})");
  EXPECT_EQ(dump(tools[0].messages[2].beside), R"({"tool_call_id":"1"})");
  EXPECT_EQ(tools[0].text(), "Q\n\n42");
  EXPECT_EQ(warning_, "1 × \"tools\" not sent");
}

TEST_F(PromptsTest, TurnsOfAConversation) {
  const std::string wildchat =
      R"({"conversation":[{"content":"Q1","role":"user"},{"content":"A1","role":"assistant"},{"content":"Q2","role":"user"},)"
      R"({"content":"12345678","role":"assistant"}],"turn":2,"language":"English"})";
  EXPECT_EQ(spoken(wildchat), std::vector<std::string>{"user: Q1"});
  EXPECT_EQ(spoken(wildchat, Turns::last),
            std::vector<std::string>{"user: Q1 | assistant: A1 | user: Q2"});
  EXPECT_EQ(warning_,
            "1 × earlier turns not sent (--turns all sends each with what was said before)");
  EXPECT_EQ(spoken(wildchat, Turns::all),
            (std::vector<std::string>{"user: Q1", "user: Q1 | assistant: A1 | user: Q2"}));
  EXPECT_EQ(read(wildchat, Turns::all).at(1).output_tokens, 3);
  EXPECT_EQ(warning_, "");
  const std::string mt_bench =
      R"({"question_id":81,"category":"writing","turns":["Compose.","Rewrite it."]})";
  EXPECT_EQ(spoken(mt_bench), std::vector<std::string>{"user: Compose."});
  EXPECT_EQ(warning_,
            "1 × later turns not sent (--turns all sends each with what was said before)");
  EXPECT_EQ(spoken(mt_bench, Turns::all),
            (std::vector<std::string>{"user: Compose.", "user: Compose.\n\nRewrite it."}));
  EXPECT_EQ(spoken(mt_bench, Turns::last),
            std::vector<std::string>{"user: Compose.\n\nRewrite it."});
  EXPECT_EQ(spoken(R"({"id":"0","data":["Q1","A1","Q2","A2"]})", Turns::last),
            std::vector<std::string>{"user: Q1 | assistant: A1 | user: Q2"});
}

TEST_F(PromptsTest, ContentInParts) {
  EXPECT_EQ(
      spoken(
          R"({"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":)"
          R"("What is it?"},{"type":"image_url","image_url":{"url":"data:x"}},"And why?"]},{"role":"assistant",)"
          R"("content":[{"type":"text","text":"A cat."}]}]})"),
      std::vector<std::string>{"system: Be brief. | user: What is it?\nAnd why?"});
  EXPECT_EQ(warning_, "1 × parts of type image_url not sent");
  EXPECT_EQ(
      spoken(R"({"messages":[{"role":"user","content":{"content_type":"text","parts":["Hi"]}}]})"),
      std::vector<std::string>{"user: Hi"});
}

TEST_F(PromptsTest, FormsThatOthersRead) {
  const std::vector<std::string> birds{"user: Name a bird", "user: Name a tree"};
  EXPECT_EQ(spoken(R"([[{"from":"human","value":"Name a bird"},{"from":"gpt","value":"Wren"}],)"
                   R"([{"from":"human","value":"Name a tree"},{"from":"gpt","value":"Elm"}]])"),
            birds);
  EXPECT_EQ(spoken("[{\"role\":\"user\",\"content\":\"Name a "
                   "bird\"}]\n[{\"role\":\"user\",\"content\":\"Name a tree\"}]\n"),
            birds);
  EXPECT_EQ(spoken("{\"id\":\"1\",\"conversations\":[{\"role\":\"user\",\"content\":\"Name a "
                   "bird\"},{\"role\":\"assistant\","
                   "\"content\":\"Wren\"}]}\n{\"id\":\"2\",\"conversations\":[{\"role\":\"user\","
                   "\"value\":\"Name a tree\"},{\"role\":\"assistant\",\"value\":\"Elm\"}]}\n"),
            birds);
  EXPECT_EQ(spoken(R"({"data":[{"prompt":"Name a bird"},{"prompt":"Name a tree"}]})"), birds);
  EXPECT_EQ(spoken("{\n \"version\": [1, {\"a\": \"]\"}],\n \"n\": 5,\n \"rows\": [\n  {\"row\": "
                   "{\"prompt\": \"Name a bird\"}},\n"
                   "  {\"row\": {\"prompt\": \"Name a tree\"}}\n ],\n \"end\": []\n}\n"),
            birds);
  EXPECT_EQ(spoken("{\n \"prompt\": \"Name a bird\"\n}\n{\n \"prompt\":\n {\"a\": 1},\n \"text\": "
                   "\"Name a tree\"\n}"),
            birds);
  EXPECT_EQ(spoken("[\n \"Name a bird\",\n \"Name a tree\"\n]"), birds);
  EXPECT_EQ(spoken("\"Name a bird\"\n\"Name a tree\"\n"), birds);
  EXPECT_EQ(
      spoken("id,prompt,answer\n1,Name a bird,Wren\n\n2,\"Name a tree\",\"Elm, or \"\"Oak\"\"\"\n"),
      birds);
  EXPECT_EQ(spoken("\xef\xbb\xbf\"Prompt\",\"Answer\"\r\n\"Name a bird\",\"Wren\"\r\n\"Name a "
                   "tree\",\"Elm\"\r\n"),
            birds);
  EXPECT_EQ(spoken("{\"prompt\":\"Name a bird\",\"score\":NaN}\n{\"instruction\":\"Name a "
                   "tree\",\"input\":NaN,\"output\":\"-Infinity\"}\n"),
            birds);
  EXPECT_EQ(spoken(R"({"prompt":["Name a bird","Name a tree"]})"), birds);
  EXPECT_EQ(spoken("{\"prompt\":[{\"role\":\"user\",\"content\":\"Name a "
                   "bird\"}]}\n{\"messages\":[],\"input\":[{\"role\":\"user\","
                   "\"content\":[{\"type\":\"input_text\",\"text\":\"Name a tree\"}]}]}\n"),
            birds);
  EXPECT_EQ(
      spoken("{\"prompt\":\"\",\"text\":\"a\"}\n{\"question\":\"b\",\"answer\":\"4\"}\n{"
             "\"problem\":\"c\"}\n{\"input\":\"d\"}\n"
             "{\"query\":\"e\"}\n{\"content\":\"f\"}\n{\"Question\":\"g\"}\n{\"inputs\":\"h\"}\n"),
      (std::vector<std::string>{"user: a", "user: b", "user: c", "user: d", "user: e", "user: f",
                                "user: g", "user: h"}));
  EXPECT_EQ(spoken(R"({"system_prompt":"Be brief","question":"Q","response":"A"})"),
            std::vector<std::string>{"system: Be brief | user: Q"});
  EXPECT_EQ(warning_, "");
}

TEST_F(PromptsTest, WhatARequestAsksFor) {
  const auto batch = read(
      "{\"custom_id\":\"1\",\"method\":\"POST\",\"url\":\"/v1/chat/"
      "completions\",\"body\":{\"model\":\"m\",\"messages\":[{\"role\":"
      "\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"Hi\"}],\"max_tokens\":100,"
      "\"n\":2,\"stop\":[]}}\n"
      "{\"body\":{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"max_completion_tokens\":"
      "50}}\n"
      "{\"prompt\":\"Hi\",\"max_tokens\":302}\n{\"prompt\":\"Hi\",\"output_length\":303.0}\n"
      "{\"text\":\"Hi\",\"sampling_params\":{\"max_new_tokens\":304,\"top_k\":5,\"temperature\":0}}"
      "\n"
      "{\"prompt\":\"Hi\",\"max_tokens\":-5}\n");
  std::vector<std::int64_t> lengths;
  for (const Prompt& prompt : batch) lengths.push_back(prompt.output_tokens);
  EXPECT_EQ(lengths, (std::vector<std::int64_t>{100, 50, 302, 303, 304, 0}));
  EXPECT_EQ(batch.at(0).messages.size(), 2u);
  EXPECT_EQ(dump(batch.at(4).sampling), R"({"temperature":0,"top_k":5})");
  EXPECT_EQ(warning_, "1 × \"n\" not sent");
}

TEST_F(PromptsTest, TokensAndLengths) {
  EXPECT_EQ(read(R"({"input_ids":[5,6,7],"output_len":4})").at(0).token_ids,
            (std::vector<std::int32_t>{5, 6, 7}));
  EXPECT_EQ(read(R"({"prompt":[1,2]})").at(0).token_ids.size(), 2u);
  const auto mooncake = read(
      "{\"timestamp\": 0, \"input_length\": 901, \"output_length\": 33, \"hash_ids\": [7, 8]}\n"
      "{\"timestamp\": 450, \"input_length\": 1300, \"output_length\": 12, \"hash_ids\": [7, 9, "
      "10]}\n");
  ASSERT_EQ(mooncake.size(), 2u);
  EXPECT_EQ(mooncake[0].token_ids.size(), 901u);
  EXPECT_EQ(mooncake[1].token_ids.size(), 1300u);
  // The first block of 512 is shared, the next is not.
  EXPECT_TRUE(std::equal(mooncake[0].token_ids.begin(), mooncake[0].token_ids.begin() + 512,
                         mooncake[1].token_ids.begin()));
  EXPECT_FALSE(std::equal(mooncake[0].token_ids.begin() + 512, mooncake[0].token_ids.end(),
                          mooncake[1].token_ids.begin() + 512));
  EXPECT_EQ(mooncake[1].output_tokens, 12);
  EXPECT_EQ(mooncake[1].arrival, 0.45);
  const auto burst_gpt = read(
      "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log "
      "Type\n2,ChatGPT,111,22,133,Conversation log\n"
      "9,ChatGPT,204,48,252,Conversation log\n");
  ASSERT_EQ(burst_gpt.size(), 2u);
  EXPECT_EQ(burst_gpt[1].token_ids.size(), 204u);
  EXPECT_EQ(burst_gpt[1].output_tokens, 48);
  EXPECT_EQ(burst_gpt[1].arrival, 9.0);
  const auto azure = read(
      "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.5000000,4808,10\n2023-11-16 "
      "18:17:05,110,27\n");
  ASSERT_EQ(azure.size(), 2u);
  EXPECT_EQ(azure[0].token_ids.size(), 4808u);
  EXPECT_EQ(*azure[1].arrival - *azure[0].arrival, 1.5);
  EXPECT_EQ(read(R"({"timestamp":900.5,"input_length":4})").at(0).arrival, 0.9005);
  EXPECT_EQ(read(R"({"timestamp":900,"prompt":"x"})").at(0).arrival, 900.0);
}

TEST_F(PromptsTest, SeveralFilesAndAgain) {
  write_text(folder_ / "a.json", R"([{"prompt": "a1"}, {"prompt": "a2"}])");
  write_text(folder_ / "b.jsonl", "{\"other\": 1}\n");
  write_text(folder_ / "c.csv", "prompt,x\nc1,5\n");
  const auto source = open_prompts({folder_ / "a.json", folder_ / "b.jsonl", folder_ / "c.csv"});
  ASSERT_TRUE(source);
  std::string text;
  for (int pass = 0; pass < 2; ++pass) {
    for (auto prompt = (*source)->next(); prompt && *prompt; prompt = (*source)->next())
      text += (*prompt)->text() + " ";
    ASSERT_TRUE((*source)->rewind());
  }
  EXPECT_EQ(text, "a1 a2 c1 a1 a2 c1 ");
  EXPECT_EQ((*source)->warning(), "1 record holds no prompt") << "counted once";
}

TEST_F(PromptsTest, AFileThatIsNoneIsNamedAndTheOthersAreRead) {
  write_text(folder_ / "a.jsonl", "{\"prompt\": \"a\"}\n");
  write_text(folder_ / "b.jsonl", "hello world\n");
  write_text(folder_ / "c.jsonl", "");
  write_text(folder_ / "d.jsonl",
             "{\"prompt\": \"d\"}\n{\"prompt\": \"" + std::string(9 << 20, 'x') + "\"}\n");
  write_text(folder_ / "e.jsonl", "{\"prompt\": \"e\"}\n");
  const auto source = open_prompts({folder_ / "a.jsonl", folder_ / "b.jsonl", folder_ / "c.jsonl",
                                    folder_ / "d.jsonl", folder_ / "e.jsonl"});
  ASSERT_TRUE(source) << source.error().message;
  std::string text;
  for (auto prompt = (*source)->next(); prompt && *prompt; prompt = (*source)->next())
    text += (*prompt)->text();
  EXPECT_EQ(text, "ade");
  for (const char* said :
       {"b.jsonl holds neither", "c.jsonl is empty", "the rest of it was not read"})
    EXPECT_NE((*source)->warning().find(said), std::string::npos) << (*source)->warning();
  EXPECT_EQ(open_prompts({folder_ / "b.jsonl", folder_ / "c.jsonl"}).error().code,
            "prompts_malformed");
}

// A conversation of many turns has every one of them with all before it: what that takes is
// bounded.
TEST_F(PromptsTest, VeryLongConversations) {
  Json messages = Json::array();
  for (int i = 0; i < 20'000; ++i)
    messages.push_back(
        {{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", std::string(50, 'x')}});
  std::size_t bytes = 0;
  for (const Prompt& prompt : prompts_of(Json{{"messages", messages}}, Turns::all).prompts)
    bytes += prompt.text().size();
  EXPECT_LT(bytes, std::size_t{20} << 20);
}

TEST_F(PromptsTest, WhatIsNoPromptFileIsSaid) {
  EXPECT_NE(refusal("just text").find("neither JSON"), std::string::npos);
  EXPECT_NE(refusal("PAR1\x15").find("Parquet"), std::string::npos);
  EXPECT_NE(refusal("\x1f\x8b\x08").find("gunzip"), std::string::npos);
  EXPECT_NE(refusal("").find("is empty"), std::string::npos);
  EXPECT_NE(refusal("a,b\n1,2\n").find("The first has \"a\", \"b\""), std::string::npos)
      << refusal("a,b\n1,2\n");
  EXPECT_NE(refusal("{\"other\": 1}\n{\"other\": 2}\n").find("none of its 2 records is a prompt"),
            std::string::npos);
  EXPECT_NE(refusal("{\"prompt\": \"  \"}\n").find("none of its 1 records"), std::string::npos);
  EXPECT_EQ(open_prompts({folder_ / "none"}).error().code, "not_found");
}

TEST_F(PromptsTest, RandomPromptsAreTheSameForASeed) {
  const RandomPrompts options{
      .input_low = 4, .input_high = 9, .output_low = 2, .output_high = 3, .seed = 5};
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
