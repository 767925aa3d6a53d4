// What most tests need: folders that go away, packed test data, a dataset with definitions, and
// sanitize in one call.
#pragma once

#include <filesystem>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sanitize/sanitize.h"
#include "simulated/dump_writer.h"

namespace cw::testing {

using namespace cw::simulated;

/// The definition that most calls of a test belong to.
inline constexpr const char* decode = "gqa_paged_decode_h32_kv8_d128_ps1";
using Values = std::vector<std::int64_t>;  ///< of an index tensor

/// A new folder below the system's temporary one, removed with everything in it at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::filesystem::path& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// Unpacks tests/data/{name}.tar.gz into a folder.
void unpack(const std::string& name, const std::filesystem::path& folder);

std::string read_text(const std::filesystem::path& path);
void write_text(const std::filesystem::path& path, const std::string& text);

/// All files below a folder with their content, by relative path.
std::map<std::string, std::string> tree(const std::filesystem::path& root);

/// A dataset with all definitions of the flashinfer-trace copy, and a folder for dumps.
class DatasetTest : public ::testing::Test {
 protected:
  DatasetTest();

  std::filesystem::path trace() const { return folder_ / "trace"; }
  std::filesystem::path dumps() const { return folder_ / "dumps"; }

  /// Sanitizes dumps() into trace(); fails the test when that fails.
  SanitizeOutcome sanitize_dumps(const SanitizeOptions& options = {.selection = Selection::all});
  /// The "workload" objects of a definition, in the file's order.
  std::vector<nlohmann::json> workloads(const std::string& definition) const;
  /// An index tensor of a workload, from its blob.
  std::vector<std::int64_t> stored(const nlohmann::json& workload, const std::string& input) const;
  /// How many calls were counted under a rejection or defect.
  static std::uint64_t count(const SanitizeOutcome& outcome, const std::string& code);

  TemporaryFolder folder_;
  BindingSet bindings_;
  std::vector<std::unique_ptr<Dataset>> datasets_;  ///< outcomes point into them
};

}  // namespace cw::testing
