#include "sanitize/defects.h"

#include <regex>
#include <set>

#include "support/fixture.h"

namespace cw::testing {
namespace {

namespace fs = std::filesystem;

// Codes that end a command: nobody counts them.
const std::set<std::string> ends_a_command{
    "bindings_invalid", "cache_unusable",     "capture_changed", "checkpoint_malformed",
    "command_failed",   "definition_invalid", "dump_dir_used",   "expression_syntax",
    "input_unknown",    "mixed_captures",     "no_dumps",        "no_recordings",
    "not_private",      "not_told",           "output_failed",   "rules_invalid",
    "spawn_failed",     "state_unusable",     "unwritable",
};

// Every code that a source file gives to an error, a rejection or a defect.
std::set<std::string> codes_in(const fs::path& path) {
  static const std::regex code(
      R"re((?:fail|add_defect|tally\.add|malformed_as)\(\s*(?:file,\s*|files_\[\w+\],\s*)?"([a-z_0-9]+)")re"
      R"re(|(?:Rejection|Error|CaptureDefect)\{\s*"([a-z_0-9]+)")re"
      R"re(|push_back\(\s*\{\s*"([a-z_0-9]+)",\s*[a-z])re"
      R"re(|std::(?:pair|tuple)\(\s*"([a-z_]+_lost)"(?:,\s*"([a-z_]+_lost)")?)re");
  const std::string text = read_text(path);
  std::set<std::string> codes;
  for (std::sregex_iterator it(text.begin(), text.end(), code), end; it != end; ++it)
    for (std::size_t group = 1; group < it->size(); ++group)
      if ((*it)[group].matched) codes.insert((*it)[group].str());
  return codes;
}

TEST(Defects, EveryCodeThatIsEmittedIsInTheTable) {
  std::set<std::string> emitted;
  for (const char* folder : {"base", "tensor", "definition", "capture", "bind", "sanitize"})
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(CW_SOURCES) / folder))
      if (entry.path().extension() == ".cpp" || entry.path().extension() == ".h")
        emitted.merge(codes_in(entry.path()));
  EXPECT_GT(emitted.size(), 60u);
  for (const std::string& code : emitted)
    EXPECT_TRUE(find_defect(code) != nullptr || ends_a_command.contains(code)) << code;
}

TEST(Defects, NothingIsInTheTableThatNobodyEmits) {
  std::string sources;
  for (const auto& entry : fs::recursive_directory_iterator(CW_SOURCES))
    if (entry.path().extension() == ".cpp" && entry.path().filename() != "defects.cpp")
      sources += read_text(entry.path());
  const auto bindings = std::string(built_in_bindings());
  for (const Defect& defect : defects()) {
    const bool is_emitted = sources.find(fmt::format("\"{}\"", defect.code)) != std::string::npos ||
                            bindings.find(fmt::format("  {}: ", defect.code)) != std::string::npos;
    EXPECT_TRUE(is_emitted) << defect.code;
  }
}

TEST(Defects, ReasonsOfBindingsAreNoDamage) {
  EXPECT_EQ(severity_of("sliding_window"), Severity::info);
  EXPECT_EQ(severity_of("a_reason_of_the_users_own"), Severity::info);
  EXPECT_EQ(severity_of("recording_cut_off"), Severity::warning);
  EXPECT_EQ(severity_of("values_too_short"), Severity::error);
  EXPECT_TRUE(is_grouped("no_definition_fits"));
  EXPECT_FALSE(is_grouped("constraint"));
}

// To make it anew: CW_UPDATE_DOCS=1 build/release/unit_tests --gtest_filter=Defects.*
TEST(Defects, ThePageSaysWhatTheTableSays) {
  const fs::path page = fs::path(CW_SOURCES) / "../docs/defects.md";
  if (std::getenv("CW_UPDATE_DOCS") != nullptr) write_text(page, defects_page());
  EXPECT_EQ(read_text(page), defects_page());
}

}  // namespace
}  // namespace cw::testing
