#include "support/fixture.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "capture/level10/dump_capture.h"
#include "tensor/safetensors.h"

namespace cw::testing {

namespace fs = std::filesystem;

TemporaryFolder::TemporaryFolder() {
  std::string name = (fs::temp_directory_path() / "collect-workloads-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void unpack(const std::string& name, const fs::path& folder) {
  fs::create_directories(folder);
  const std::string command =
      fmt::format("tar xzf '{}/{}.tar.gz' -C '{}'", CW_TEST_DATA, name, folder.string());
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_text(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

std::map<std::string, std::string> tree(const fs::path& root) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(root))
    if (entry.is_regular_file())
      files[entry.path().lexically_relative(root).string()] = read_text(entry.path());
  return files;
}

DatasetTest::DatasetTest() : bindings_(*BindingSet::parse(std::string(built_in_bindings()))) {
  unpack("definitions", trace());
  fs::create_directories(dumps());
}

SanitizeOutcome DatasetTest::sanitize_dumps(const SanitizeOptions& options) {
  auto dataset = Dataset::open(trace());
  auto capture = level10::DumpCapture::open({dumps()});
  if (!dataset || !capture) {
    ADD_FAILURE() << (dataset ? capture.error().message : dataset.error().message);
    return {};
  }
  datasets_.push_back(std::make_unique<Dataset>(std::move(*dataset)));
  auto outcome = sanitize(*capture, *datasets_.back(), bindings_, options);
  if (!outcome) {
    ADD_FAILURE() << outcome.error().message;
    return {};
  }
  return std::move(*outcome);
}

std::vector<nlohmann::json> DatasetTest::workloads(const std::string& definition) const {
  std::vector<nlohmann::json> result;
  for (const auto& entry : fs::recursive_directory_iterator(trace())) {
    if (entry.path().filename() != definition + ".jsonl") continue;
    std::istringstream lines(read_text(entry.path()));
    for (std::string line; std::getline(lines, line);)
      result.push_back(nlohmann::json::parse(line).at("workload"));
  }
  return result;
}

std::vector<std::int64_t> DatasetTest::stored(const nlohmann::json& workload,
                                              const std::string& input) const {
  const nlohmann::json& spec = workload.at("inputs").at(input);
  if (spec.at("type") != "safetensors") {
    ADD_FAILURE() << input << " is " << spec.dump();
    return {};
  }
  const fs::path path = trace() / spec.at("path").get<std::string>();
  const auto header = read_safetensors_header(path.string());
  const std::string content = read_text(path);
  if (!header) {
    ADD_FAILURE() << header.error().message;
    return {};
  }
  for (const SafetensorsEntry& entry : *header)
    if (entry.name == spec.at("tensor_key"))
      return integers(
          {entry.dtype, entry.shape, content.substr(entry.begin, entry.end - entry.begin)});
  ADD_FAILURE() << path << " has no " << input;
  return {};
}

std::uint64_t DatasetTest::count(const SanitizeOutcome& outcome, const std::string& code) {
  std::uint64_t total = 0;
  for (const auto& [key, item] : outcome.survey.tally.items())
    if (key.code == code) total += item.count;
  return total;
}

}  // namespace cw::testing
