#include "dataset/validation.h"

#include "support/fixture.h"

namespace cw::testing {
namespace {

constexpr const char* lines = "workloads/gqa_paged/gqa_paged_decode_h32_kv8_d128_ps1.jsonl";

class ValidationTest : public DatasetTest {
 protected:
  ValidationTest() {
    DumpWriter writer(dumps(), 77);
    writer.write(decode_plan(0xa, {0, 2}, {3, 4}));
    writer.tick();
    writer.write(decode_run(0xa, 1));
    sanitize_dumps();
    line_ = nlohmann::ordered_json::parse(read_text(trace() / lines));
  }
  // Codes of the errors after a change of the one line.
  std::vector<std::string> errors() {
    std::vector<std::string> codes;
    const auto report = validate(trace(), bindings_.index_checks());
    for (const Finding& finding : report->findings)
      if (finding.severity == Finding::Severity::error) codes.push_back(finding.code);
    return codes;
  }
  std::vector<std::string> errors_with(const std::string& pointer,
                                       const nlohmann::ordered_json& value) {
    auto changed = line_;
    changed[nlohmann::ordered_json::json_pointer(pointer)] = value;
    write_text(trace() / lines, changed.dump() + "\n");
    return errors();
  }
  std::filesystem::path blob() const {
    return trace() / line_["workload"]["inputs"]["kv_indices"]["path"].get<std::string>();
  }

  using Codes = std::vector<std::string>;
  nlohmann::ordered_json line_;
};

TEST_F(ValidationTest, WhatSanitizeWritesIsValid) {
  EXPECT_EQ(errors(), Codes{});
}

// What macOS leaves on other file systems' disks and in archives.
TEST_F(ValidationTest, LitterIsNobodysData) {
  for (const char* place : {"definitions/gqa_paged/._gqa_paged_decode_h32_kv8_d128_ps1.json",
                            "workloads/gqa_paged/._gqa_paged_decode_h32_kv8_d128_ps1.jsonl",
                            "blob/workloads/._x.safetensors", "workloads/.DS_Store"})
    write_text(trace() / place, std::string("\0\5\26\7", 4));
  write_text(dumps() / "._20261122_100000_001_pid77_x_call0001", "x");
  write_text(dumps() / "._recording.cbor", "x");
  EXPECT_EQ(errors(), Codes{});
  EXPECT_TRUE(Dataset::open(trace())->bad_definitions.empty());
  EXPECT_TRUE(sanitize_dumps().survey.tally.items().empty());
}

TEST_F(ValidationTest, DefinitionsThatNoBindingKnowsAreNamed) {
  auto definition = nlohmann::ordered_json::parse(
      read_text(trace() / "definitions/gqa_paged/gqa_paged_decode_h32_kv8_d128_ps1.json"));
  definition["name"] = "of_another_kind";
  definition["op_type"] = "unheard_of";
  write_text(trace() / "definitions/unheard_of/of_another_kind.json", definition.dump());
  const auto report = validate(trace(), bindings_.index_checks());
  EXPECT_TRUE(report->is_valid());
  ASSERT_EQ(report->findings.size(), 1u);
  EXPECT_EQ(report->findings[0].code, "no_binding");
}

// As an example of flashinfer-bench lays its files, where the usual place is empty.
TEST_F(ValidationTest, WorkloadsMayLieFlat) {
  const auto flat = trace() / "workloads/gqa_paged_decode_h32_kv8_d128_ps1.jsonl";
  std::filesystem::rename(trace() / lines, flat);
  EXPECT_EQ(errors(), Codes{});
  EXPECT_TRUE(Dataset::open(trace())->check_places());
  write_text(trace() / lines, "");
  EXPECT_EQ(errors(), (Codes{"workloads_misplaced", "workload_misplaced"}));
  EXPECT_FALSE(Dataset::open(trace())->check_places());
}

TEST_F(ValidationTest, WorkloadsThatLieElsewhereAreNamedByAll) {
  std::filesystem::create_directory(trace() / "workloads/elsewhere");
  std::filesystem::rename(trace() / lines,
                          trace() / "workloads/elsewhere/gqa_paged_decode_h32_kv8_d128_ps1.jsonl");
  EXPECT_EQ(errors(), (Codes{"workloads_misplaced", "workload_misplaced"}));
  const auto dataset = Dataset::open(trace());
  const auto places = dataset->check_places();
  ASSERT_FALSE(places);
  EXPECT_NE(places.error().message.find(lines), std::string::npos) << places.error().message;
}

TEST_F(ValidationTest, Schema) {
  EXPECT_EQ(errors_with("/workload/uuid", ""), Codes{"workload_invalid"});
  EXPECT_EQ(errors_with("/definition", "unheard_of"), Codes{"definition_unknown"});
  EXPECT_EQ(errors_with("/solution", "mine"), Codes{"workload_invalid"});
  EXPECT_EQ(errors_with("/workload/axes/batch_size", -1), Codes{"axis_invalid"});
  EXPECT_EQ(errors_with("/workload/inputs/sm_scale/value", "0.1"), Codes{"scalar_invalid"});
  EXPECT_EQ(errors_with("/workload/inputs/q/type", "scalar"), Codes{"scalar_invalid"});
  EXPECT_EQ(errors_with("/workload/inputs/q/type", "file"), Codes{"input_invalid"});
}

TEST_F(ValidationTest, AxesAgainstBlobsAndConstraints) {
  EXPECT_EQ(errors_with("/workload/axes/num_kv_indices", 3), Codes{"blob_shape"});
  EXPECT_EQ(errors_with("/workload/axes/batch_size", 2), Codes{"constraint"});
  EXPECT_EQ(errors_with("/workload/axes/num_pages", 4),
            Codes{"structure"});  // index 4 points past it
}

TEST_F(ValidationTest, Blobs) {
  EXPECT_EQ(errors_with("/workload/inputs/kv_indices/tensor_key", "other"),
            Codes{"tensor_missing"});
  const std::string whole = read_text(blob());
  write_text(trace() / lines, line_.dump() + "\n");
  write_text(blob(), whole.substr(0, whole.size() - 1));
  EXPECT_EQ(errors(), (Codes{"safetensors_malformed", "safetensors_malformed"}));
  write_text(blob(), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
  EXPECT_EQ(errors(), (Codes{"blob_not_fetched", "blob_not_fetched"}));
  std::filesystem::remove(blob());
  EXPECT_EQ(errors(), (Codes{"blob_missing", "blob_missing"}));
  write_text(blob(), whole);
  write_text(blob().parent_path() / "more.safetensors", whole);
  EXPECT_EQ(errors(), Codes{"orphan_blob"});
}

TEST_F(ValidationTest, PathsThatLeaveTheDataset) {
  std::filesystem::copy(blob(), folder_ / "outside.safetensors");
  std::filesystem::create_symlink(folder_ / "outside.safetensors",
                                  trace() / "blob/link.safetensors");
  for (const std::string& path :
       {std::string("../outside.safetensors"), (folder_ / "outside.safetensors").string(),
        std::string("blob/../../outside.safetensors"), std::string("./blob/link.safetensors"),
        std::string()})
    EXPECT_EQ(errors_with("/workload/inputs/kv_indices/path", path), Codes{"path_escapes"}) << path;
}

TEST_F(ValidationTest, IdsOccurOnce) {
  write_text(trace() / lines, line_.dump() + "\n" + line_.dump() + "\n");
  EXPECT_EQ(errors(), Codes{"duplicate_id"});
}

TEST_F(ValidationTest, InvalidDefinitionsAreNamedAndOthersStillChecked) {
  write_text(trace() / "definitions/bad/bad.json", "{\"name\": \"bad\"}");
  EXPECT_EQ(errors(), Codes{"definition_invalid"});
}

}  // namespace
}  // namespace cw::testing
