#include "cli/commands.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include <fcntl.h>

#include "base/console.h"
#include "base/file.h"
#include "base/process.h"
#include "base/redact.h"

namespace cw::cli {

Result<BindingSet> load_bindings(const CommonArguments& common) {
  if (common.bindings.empty()) return BindingSet::parse(std::string(built_in_bindings()));
  CW_TRY(const std::string yaml, read_file(AT_FDCWD, common.bindings.string(), 16 << 20));
  auto bindings = BindingSet::parse(yaml);
  if (!bindings)
    return fail(bindings.error().code, "{}: {}", common.bindings.string(),
                bindings.error().message);
  return bindings;
}

std::filesystem::path first_unused(const std::filesystem::path& wanted) {
  std::filesystem::path path = wanted;
  std::error_code error;
  for (int i = 2; std::filesystem::exists(path, error); ++i)
    path = wanted.string() + fmt::format("-{}", i);
  return path;
}

std::chrono::steady_clock::duration slowness_for_tests() {
  const char* const microseconds = std::getenv("COLLECT_WORKLOADS_TEST_SLOWNESS_US");
  return std::chrono::microseconds(microseconds != nullptr ? std::atoi(microseconds) : 0);
}

std::string timestamp() {
  char text[32];
  const std::time_t now = std::time(nullptr);
  std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", std::gmtime(&now));
  return text;
}

std::string_view advice_for(std::string_view code) {
  if (code == "disk_full")
    return "Free some space and run the same command again; the dataset is valid as it is.";
  if (code == "no_dumps")
    return "Give the folder that FLASHINFER_DUMP_DIR named, or one above it; or one with "
           "recordings (*.cbor).";
  if (code == "not_found") return "Check the path.";
  if (code == "state_unusable") return "Name another folder for logs and work with XDG_STATE_HOME.";
  if (code == "cache_unusable") return "Name another folder for it with XDG_CACHE_HOME.";
  if (code == "unwritable") return "Check the permissions of the dataset's folder.";
  if (code == "port_unknown")
    return "collect-workloads collect --help says what --launch-command takes.";
  if (code == "engine_elsewhere") return "curl http://HOST:PORT/health says whether it is there.";
  if (code == "checkpoint_malformed")
    return "Remove that folder and collect anew; what the dataset has stays.";
  if (code == "capture_changed")
    return "Wait until the engine has stopped, then run the same command again.";
  if (code == "workloads_invalid")
    return "collect-workloads validate --trace-dir DIR shows what is wrong in it.";
  return {};
}

std::string describe_others(const std::vector<std::filesystem::path>& roots) {
  std::string text;
  for (const std::filesystem::path& root : roots)
    if (const auto others = others_in(root); !others.empty())
      text += wrap(fmt::format("Left behind in {}: {}", root.string(), fmt::join(others, ", ")), 80,
                   "");
  return text;
}

std::string next_commands(const std::filesystem::path& trace_dir, bool is_simulated) {
  std::string text;
  std::vector<const char*> commands = {"validate", "verify", "report"};
  if (!is_simulated) commands.push_back("submit");
  for (const char* command : commands)
    text += fmt::format("  collect-workloads {} --trace-dir {}\n", command,
                        to_shell({{trace_dir.string()}}));
  return text;
}

int report(const Error& error, std::string_view advice) {
  print(stderr, "collect-workloads: error:", Style::red);
  print(stderr, " " + redact(std::string_view(error.message)) + "\n");
  if (advice.empty()) advice = advice_for(error.code);
  if (!advice.empty()) print(stderr, wrap_lines(advice, 80, "  "));
  return exit_failure;
}

std::string describe_tally(const Tally& tally, bool with_all) {
  // What is known beforehand to be no loss is shown only by inspect.
  std::vector<const std::pair<const TallyKey, TallyItem>*> items;
  for (const auto& item : tally.items())
    if (with_all || (item.first.code != "no_definition" && item.first.code != "not_selected"))
      items.push_back(&item);
  std::stable_sort(items.begin(), items.end(), [](const auto* a, const auto* b) {
    const auto left = severity_of(a->first.code), right = severity_of(b->first.code);
    return left != right ? left > right : a->second.count > b->second.count;
  });
  std::string text;
  for (const auto* entry : items) {
    const auto& [key, item] = *entry;
    text += fmt::format("  {:<8}{:>9}  {}\n", name(severity_of(key.code)),
                        with_separators(item.count), key.code);
    if (!key.function.empty()) text += std::string(21, ' ') + "in " + key.function + "\n";
    text += wrap(item.message, 80, "                     ");
    if (!item.example.empty() && item.message.find(item.example) == std::string::npos)
      text += "                     e.g. " +
              std::filesystem::path(item.example).filename().string() + "\n";
  }
  return for_terminal(text);
}

}  // namespace cw::cli
