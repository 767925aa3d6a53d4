#include <future>

#include "base/json.h"
#include "simulated/scheduler.h"
#include "support/fixture.h"

namespace cw::testing {

class SimulatedTest : public DatasetTest {
 protected:
  static SchedulerOptions options() {
    SchedulerOptions options;
    options.shape.layers = 2;
    options.max_total_tokens = 2000;
    options.decode_step_ms = options.prefill_token_us = 0;
    return options;
  }
  DumpOptions dump_all() const {
    DumpOptions all;
    all.folder = dumps();
    all.max_count = 1'000'000;
    return all;
  }
  // Runs requests of these prompts to their ends; answers with how many tokens each made.
  std::vector<std::int64_t> serve(const SchedulerOptions& with,
                                  const std::vector<std::vector<std::int32_t>>& prompts,
                                  std::int64_t length) {
    Scheduler scheduler(with, dump_all(), {});
    std::vector<std::promise<std::int64_t>> ends(prompts.size());
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      GenerateRequest request{.prompt = prompts[i], .max_new_tokens = length};
      request.on_token = [&ends, i](const TokenEvent& event) {
        if (event.is_last) ends[i].set_value(event.tokens);
      };
      scheduler.submit(std::move(request));
    }
    std::vector<std::int64_t> made;
    for (auto& end : ends) made.push_back(end.get_future().get());
    return made;
  }
  static std::vector<std::int32_t> prompt(std::int32_t first, std::size_t length) {
    std::vector<std::int32_t> tokens(length);
    for (std::size_t i = 0; i < length; ++i) tokens[i] = first + static_cast<std::int32_t>(i);
    return tokens;
  }
};

TEST_F(SimulatedTest, EveryCallOfLlamaIsBound) {
  const auto made = serve(options(), {prompt(1, 40), prompt(500, 30), prompt(900, 5)}, 6);
  EXPECT_EQ(made, (std::vector<std::int64_t>{6, 6, 6}));
  const auto outcome = sanitize_dumps();
  EXPECT_FALSE(workloads("gqa_paged_decode_h32_kv8_d128_ps1").empty());
  EXPECT_FALSE(workloads("gqa_ragged_prefill_causal_h32_kv8_d128").empty());
  EXPECT_FALSE(workloads("rmsnorm_h4096").empty());
  EXPECT_FALSE(workloads("fused_add_rmsnorm_h4096").empty());
  for (const auto& [key, item] : outcome.survey.tally.items())
    ADD_FAILURE() << key.code << ": " << item.message;
}

TEST_F(SimulatedTest, CachedPrefixesMakeExtendsOfTwoHalves) {
  SchedulerOptions with = options();
  serve(with, {prompt(1, 100)}, 1);
  // In one engine: the second request finds what the first left.
  Scheduler scheduler(with, dump_all(), {});
  for (int i = 0; i < 2; ++i) {
    std::promise<void> end;
    GenerateRequest request{.prompt = prompt(1, 100), .max_new_tokens = 2};
    request.on_token = [&end](const TokenEvent& event) {
      if (event.is_last) end.set_value();
    };
    scheduler.submit(std::move(request));
    end.get_future().get();
  }
  EXPECT_GT(count(sanitize_dumps(), "prefix_half"), 0u);
}

TEST_F(SimulatedTest, MlaOfAFullPool) {
  SchedulerOptions with = options();
  with.shape.attention = ModelShape::Attention::mla;
  with.shape.qo_heads = 16;
  with.shape.hidden = 7168;
  with.shape.sm_scale = 0.1352;
  with.max_total_tokens = 120;  // sequences go back to the queue and come again
  const auto made = serve(with, {prompt(1, 40), prompt(100, 40), prompt(200, 20)}, 20);
  EXPECT_EQ(made, (std::vector<std::int64_t>{20, 20, 20}));
  sanitize_dumps();
  EXPECT_FALSE(workloads("mla_paged_decode_h16_ckv512_kpe64_ps1").empty());
  EXPECT_FALSE(workloads("mla_ragged_prefill_causal_h16_qk192_vo128").empty());
}

TEST_F(SimulatedTest, PagesAreGivenBack) {
  PagePool pool(64, false);
  std::vector<std::int64_t> slots;
  ASSERT_TRUE(pool.allocate(60, slots));
  EXPECT_FALSE(pool.allocate(5, slots));
  EXPECT_EQ(slots.size(), 60u);
  pool.release(prompt(0, 60), slots, 0);
  EXPECT_EQ(pool.available(), 64);
}

TEST_F(SimulatedTest, PrefixesAreSharedEvictedAndNeverLost) {
  PagePool pool(96, true);
  std::vector<std::int64_t> first;
  ASSERT_TRUE(pool.allocate(50, first));
  pool.release(prompt(0, 50), first, 0);
  EXPECT_EQ(pool.available(), 96);
  auto again = pool.match(prompt(0, 50));
  EXPECT_EQ(again.size(), 48u);  // three blocks; never the whole prompt
  EXPECT_EQ(std::vector<std::int64_t>(first.begin(), first.begin() + 48), again);
  std::vector<std::int64_t> other;
  EXPECT_FALSE(pool.allocate(49, other));  // what is in use is not evicted
  ASSERT_TRUE(pool.allocate(2, again));
  pool.release(prompt(0, 50), again, 48);
  ASSERT_TRUE(pool.allocate(96, other));  // all of it, by eviction
  pool.release(prompt(1000, 96), other, 0);
  EXPECT_TRUE(pool.match(prompt(0, 50)).empty());
  EXPECT_EQ(pool.available(), 96);
}

// What a real SGLang run on an H200 dumped and what the simulated engine dumps: the same fields in
// the same order with values of the same types, call by call.
TEST_F(SimulatedTest, RecordsAreAsRealOnes) {
  unpack("sglang-0.5.17-llama-ps1", folder_ / "real");
  serve(options(), {prompt(1, 6), prompt(900, 6)}, 3);
  const auto records = [](const std::filesystem::path& folder) {
    std::map<std::string, Json> last;  // by function
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (entry.path().filename() != "metadata.jsonl") continue;
      std::istringstream lines(read_text(entry.path()));
      for (std::string line; std::getline(lines, line);) {
        auto json = parse_json(line);
        if (!json || (*json)["execution_status"] != "completed") continue;
        const std::string function = (*json)["function_name"];
        last[function] = std::move(*json);
      }
    }
    return last;
  };
  const auto real = records(folder_ / "real"), simulated = records(dumps());
  const auto keys = [](const Json& object) {
    std::vector<std::string> names;
    for (const auto& [name, value] : object.items())
      names.push_back(name + ":" + value.type_name());
    return names;
  };
  std::size_t compared = 0;
  for (const auto& [function, record] : simulated) {
    const auto found = real.find(function);
    if (found == real.end()) continue;
    ++compared;
    // But for the mark by which nobody takes it for a kernel's.
    EXPECT_EQ(record["simulated"], true);
    Json unmarked = record;
    unmarked.erase("simulated");
    EXPECT_EQ(keys(unmarked), keys(found->second)) << function;
    for (const char* part :
         {"input_metadata", "output_metadata", "tensor_info", "tensor_details", "versions"})
      EXPECT_EQ(keys(record[part]), keys(found->second[part])) << function << " " << part;
    for (const char* same : {"function_signature", "module", "tensor_format", "graph_capture"})
      EXPECT_EQ(record[same], found->second[same]) << function;
    for (const auto& [name, tensor] : record["tensor_details"].items())
      EXPECT_EQ(keys(tensor), keys(found->second["tensor_details"][name]))
          << function << " " << name;
  }
  EXPECT_GE(compared, 7u);
}

}  // namespace cw::testing
