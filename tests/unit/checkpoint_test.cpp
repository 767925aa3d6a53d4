#include "sanitize/checkpoint.h"

#include "capture/level10/method.h"
#include "sanitize/watch.h"
#include "support/fixture.h"

namespace cw::testing {

class CheckpointTest : public DatasetTest {
 protected:
  std::unique_ptr<Watcher> watcher(const std::string& dumps,
                                   SanitizeOptions options = {.selection = Selection::all}) {
    std::filesystem::create_directories(folder_ / dumps);
    datasets_.push_back(std::make_unique<Dataset>(Dataset::open(trace()).value()));
    return Watcher::create({folder_ / dumps, &level10::dump_method(), false, checkpoint()},
                           *datasets_.back(), bindings_, options)
        .value();
  }
  std::filesystem::path checkpoint() const { return folder_ / "found"; }
  void write_step(const std::string& dumps, std::int64_t page, int process = 7) {
    std::filesystem::create_directories(folder_ / dumps);
    DumpWriter& writer =
        writers_.try_emplace({dumps, process}, folder_ / dumps, process).first->second;
    writer.write(decode_plan(0xa, {0, 2}, {page, page + 1}));
    writer.tick();
    for (int layer = 0; layer < 3; ++layer) {
      writer.write(decode_run(0xa, 1));
      writer.tick();
    }
  }
  std::map<std::string, std::string> dataset() const {
    auto files = tree(trace());
    std::erase_if(files, [](const auto& file) {
      return file.first.starts_with("definitions") || file.first[0] == '.';
    });
    return files;
  }
  std::map<std::pair<std::string, int>, DumpWriter> writers_;
};

// A run in two processes gives what a run in one gives: workloads, counts, the place in
// collection.json.
TEST_F(CheckpointTest, AnotherProcessGoesOn) {
  for (int step = 0; step < 3; ++step) write_step("whole", 10 * step);
  write_step("whole", 10);
  ASSERT_TRUE(watcher("whole")->finish());
  const auto whole = dataset();
  for (const char* name : {"workloads", "blob", "collection.json"})
    std::filesystem::remove_all(trace() / name);

  for (int step = 0; step < 3; ++step) write_step("first", 10 * step);
  {
    const auto killed = watcher("first");
    ASSERT_TRUE(killed->poll());
    ASSERT_TRUE(killed->save({{"requests", 3}}));
  }
  EXPECT_EQ(dataset().size(), 0u);
  write_step("second", 10);
  const auto resumed = watcher("second");
  const auto more = resumed->restore();
  ASSERT_TRUE(more) << more.error().message;
  EXPECT_EQ(more->at("requests"), 3);
  EXPECT_EQ(resumed->sanitizer().calls(), 12u);
  const auto outcome = resumed->finish();
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(dataset(), whole);
}

TEST_F(CheckpointTest, WhatAKilledProcessLeftInItsFolderIsTakenUp) {
  for (int step = 0; step < 2; ++step) write_step("dumps", 10 * step);
  {
    const auto killed = watcher("dumps");
    ASSERT_TRUE(killed->poll());
    ASSERT_TRUE(killed->save({{"requests", 1}}));
  }
  write_step("dumps", 20);  // dumped after the watcher's death
  ASSERT_TRUE(Watcher::absorb({folder_ / "dumps", &level10::dump_method(), false, checkpoint()},
                              *datasets_.back(), bindings_, {}));
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / "dumps"));
  const auto resumed = watcher("again");
  EXPECT_EQ(resumed->restore()->at("requests"), 1);
  const auto outcome = resumed->finish();
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(workloads(decode).size(), 3u);
  EXPECT_EQ(outcome->definitions.size(), 156u);
}

TEST_F(CheckpointTest, BlobsOfWhatTheStashGaveUpAreRemoved) {
  const SanitizeOptions options{.num_samples = 1};  // four are stashed
  const auto watching = watcher("dumps", options);
  for (int step = 0; step < 20; ++step) {
    write_step("dumps", 10 * step);
    ASSERT_TRUE(watching->poll());
    ASSERT_TRUE(watching->save(Json::object()));
    EXPECT_LE(tree(checkpoint() / "blob").size(), 4u);
  }
  EXPECT_EQ(tree(checkpoint() / "blob").size(), 4u);
  const auto resumed = watcher("again", options);
  ASSERT_TRUE(resumed->restore());
  for (const Progress& progress : resumed->sanitizer().progress())
    if (progress.definition->name == decode) {
      EXPECT_EQ(progress.distinct, 20u);
      EXPECT_EQ(progress.calls, 60u);
      EXPECT_GT(progress.cells, 1u);
    }
}

TEST_F(CheckpointTest, ADamagedBlobCostsItsWorkload) {
  write_step("dumps", 0);
  write_step("dumps", 10);
  {
    const auto watching = watcher("dumps");
    ASSERT_TRUE(watching->poll());
    ASSERT_TRUE(watching->save(Json::object()));
  }
  const auto blobs = tree(checkpoint() / "blob");
  ASSERT_EQ(blobs.size(), 2u);
  write_text(checkpoint() / "blob" / blobs.begin()->first, "torn");
  const auto resumed = watcher("again");
  ASSERT_TRUE(resumed->restore());
  ASSERT_TRUE(resumed->finish());
  EXPECT_EQ(workloads(decode).size(), 1u);
}

TEST_F(CheckpointTest, AStateThatIsNoneIsAnError) {
  EXPECT_EQ(watcher("dumps")->restore().error().code, "not_found");
  std::filesystem::create_directories(checkpoint());
  for (const char* text :
       {"", "[]", "{}", "{\"format\": 2, \"more\": {}}", "{\"format\": 1, \"more\": {}}",
        "{\"format\": 1, \"more\": {}, \"id\": \"x\", \"calls\": -1}",
        "{\"format\": 1, \"more\": {}, \"id\": 4}"}) {
    write_text(checkpoint() / "state.json", text);
    EXPECT_EQ(watcher("dumps")->restore().error().code, "checkpoint_malformed") << text;
  }
  write_step("dumps", 0);
  const auto watching = watcher("dumps");
  ASSERT_TRUE(watching->poll());
  ASSERT_TRUE(watching->save(Json::object()));
  const std::string good = read_text(checkpoint() / "state.json");
#ifdef CW_SANITIZES_MEMORY
  const std::size_t stride = good.size() / 16;  // a minute otherwise
#else
  const std::size_t stride = 29;
#endif
  for (std::size_t i = 0; i < good.size();
       i += stride) {  // torn and garbled: an error or another count, never a crash
    write_text(checkpoint() / "state.json", good.substr(0, i));
    EXPECT_FALSE(watcher("again")->restore());
    std::string garbled = good;
    garbled[i] = '9';
    write_text(checkpoint() / "state.json", garbled);
    (void)watcher("again")->restore();
  }
}

TEST_F(CheckpointTest, ConcludedOnlyThePositionStays) {
  write_step("dumps", 0);
  const auto watching = watcher("dumps");
  ASSERT_TRUE(watching->poll());
  ASSERT_TRUE(watching->save({{"requests", 1}}));
  ASSERT_TRUE(watching->mark({{"requests", 2}}));
  EXPECT_EQ(Checkpoint::more_of(checkpoint()).at("requests"), 2);
  EXPECT_EQ(watcher("again")->restore()->at("requests"), 2);
  ASSERT_TRUE(watching->conclude({{"requests", 3}}));
  EXPECT_EQ(Checkpoint::more_of(checkpoint()).at("requests"), 3);
  EXPECT_EQ(tree(checkpoint()).size(), 1u);
  EXPECT_TRUE(Checkpoint::more_of(folder_ / "nowhere").is_null());
}

}  // namespace cw::testing
