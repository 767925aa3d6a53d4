#include "dataset/publication.h"

#include "capture/level10/dump_capture.h"
#include "dataset/validation.h"
#include "support/fixture.h"

namespace cw::testing {
namespace {

class PublicationTest : public DatasetTest {
 protected:
  PublicationTest() {
    DumpWriter writer(dumps(), 77);
    for (std::int64_t page = 0; page < 5; ++page) {
      writer.write(decode_plan(0xa, {0, 2}, {page, page + 1}));
      writer.tick();
      writer.write(decode_run(0xa, 1));
      writer.tick();
    }
  }
  bool is_valid() { return validate(trace(), bindings_.index_checks())->is_valid(); }
};

TEST_F(PublicationTest, AnInterruptedRunIsTakenBack) {
  sanitize_dumps();
  const auto whole = tree(trace());
  // As after kill -9 between the blobs and the lines: journal and blobs are there, the lines are
  // not.
  std::string journal;
  for (const auto& [path, content] : whole)
    if (path.ends_with(".safetensors")) journal += path + "\n";
  write_text(trace() / ".collect-workloads.journal", journal);
  std::filesystem::remove(trace() / "workloads/gqa_paged/gqa_paged_decode_h32_kv8_d128_ps1.jsonl");
  write_text(trace() / "workloads/gqa_paged/gqa_paged_decode_h32_kv8_d128_ps1.jsonl.partial",
             "{\"defi");
  EXPECT_TRUE(is_valid());
  EXPECT_EQ(sanitize_dumps().recovered, 5u);
  EXPECT_EQ(tree(trace()), whole);
}

TEST_F(PublicationTest, BlobsWithLinesSurviveAJournal) {
  sanitize_dumps();
  const auto whole = tree(trace());
  std::string journal;
  for (const auto& [path, content] : whole)
    if (path.ends_with(".safetensors")) journal += path + "\n";
  write_text(trace() / ".collect-workloads.journal",
             journal + "blob/workloads/../../../outside\n/etc/passwd\n");
  EXPECT_EQ(sanitize_dumps().recovered, 0u);
  EXPECT_EQ(tree(trace()), whole);
}

TEST_F(PublicationTest, BlobsWithLinesInAFlatFileSurviveAJournal) {
  sanitize_dumps();
  std::string journal;
  for (const auto& [path, content] : tree(trace())) {
    if (path.ends_with(".safetensors")) journal += path + "\n";
    if (!path.ends_with(".jsonl")) continue;
    std::filesystem::rename(trace() / path,
                            trace() / "workloads" / std::filesystem::path(path).filename());
  }
  const auto whole = tree(trace());
  write_text(trace() / ".collect-workloads.journal", journal);
  EXPECT_EQ(sanitize_dumps().recovered, 0u);
  EXPECT_EQ(tree(trace()), whole);

  // And where somebody has put a file into the usual place since.
  write_text(trace() / ".collect-workloads.journal", journal);
  std::filesystem::create_directories(trace() / "workloads/gqa_paged");
  write_text(trace() / "workloads/gqa_paged/gqa_paged_decode_h32_kv8_d128_ps1.jsonl", "");
  ASSERT_TRUE(Publication::begin(trace()));
  for (const auto& [path, content] : whole)
    EXPECT_TRUE(std::filesystem::exists(trace() / path)) << path;
}

TEST_F(PublicationTest, TwoWritersAtOnce) {
  const auto first = Publication::begin(trace());
  ASSERT_TRUE(first);
  EXPECT_EQ(Publication::begin(trace(), std::chrono::milliseconds(60)).error().code, "locked");
}

TEST_F(PublicationTest, AWorkloadTheDatasetHasUnderAnotherIdIsNotAdded) {
  sanitize_dumps();
  const auto lines = trace() / "workloads/gqa_paged/gqa_paged_decode_h32_kv8_d128_ps1.jsonl";
  std::string text = read_text(lines);
  const std::string id = nlohmann::json::parse(text.substr(0, text.find('\n')))["workload"]["uuid"];
  // Another tool's id, and its own blob name.
  text.replace(text.find("\"uuid\":\"" + id) + 8, id.size(),
               "00000000-0000-4000-8000-000000000000");
  write_text(lines, text);
  const auto outcome = sanitize_dumps();
  EXPECT_EQ(read_text(lines), text);
  bool found = false;
  for (const DefinitionOutcome& definition : outcome.definitions)
    for (const KeptWorkload& kept : definition.kept)
      found |= kept.id == "00000000-0000-4000-8000-000000000000" && !kept.is_new;
  EXPECT_TRUE(found);
}

TEST_F(PublicationTest, ADamagedWorkloadsFileIsNotBuiltUpon) {
  const auto lines = trace() / "workloads/gqa_paged/gqa_paged_decode_h32_kv8_d128_ps1.jsonl";
  write_text(lines, "{\"definition\": \n");
  const auto dataset = Dataset::open(trace());
  auto capture = level10::DumpCapture::open({dumps()});
  EXPECT_EQ(sanitize(*capture, *dataset, bindings_, {}).error().code, "workloads_invalid");
  EXPECT_EQ(read_text(lines), "{\"definition\": \n");
  EXPECT_FALSE(std::filesystem::exists(trace() / "blob"));
}

TEST_F(PublicationTest, AppendsToAFileWithoutAFinalNewline) {
  sanitize_dumps();
  const auto lines = trace() / "workloads/gqa_paged/gqa_paged_decode_h32_kv8_d128_ps1.jsonl";
  std::string text = read_text(lines);
  write_text(lines, text.substr(0, text.size() - 1));
  DumpWriter writer(dumps(), 78);
  writer.write(decode_plan(0xa, {0, 2}, {9, 10}));
  writer.tick();
  writer.write(decode_run(0xa, 1));
  sanitize_dumps();
  EXPECT_EQ(workloads("gqa_paged_decode_h32_kv8_d128_ps1").size(), 6u);
  EXPECT_TRUE(is_valid());
}

TEST_F(PublicationTest, ADryRunWritesNothing) {
  const auto before = tree(trace());
  const auto outcome = sanitize_dumps({.is_dry_run = true});
  EXPECT_EQ(tree(trace()), before);
  EXPECT_EQ(std::count_if(outcome.definitions.begin(), outcome.definitions.end(),
                          [](const auto& d) { return d.added() > 0; }),
            1);
}

TEST_F(PublicationTest, AnotherToolsCollectionFileIsNotOverwritten) {
  write_text(trace() / "collection.json", "[]");
  const auto dataset = Dataset::open(trace());
  auto capture = level10::DumpCapture::open({dumps()});
  EXPECT_EQ(sanitize(*capture, *dataset, bindings_, {}).error().code, "collection_invalid");
  EXPECT_EQ(read_text(trace() / "collection.json"), "[]");
}

}  // namespace
}  // namespace cw::testing
