#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <set>

#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "base/console.h"
#include "base/file.h"
#include "capture/recording/recording_capture.h"
#include "cli/collect_environment.h"
#include "cli/commands.h"
#include "record/kit.h"
#include "record/lost.h"

namespace cw::cli {
namespace {

namespace fs = std::filesystem;

std::set<std::string> recordings_in(const fs::path& folder) {
  return recording::RecordingCapture::names_in(folder).value_or(std::set<std::string>());
}

// A Python of the command's that the recorder is not in, though its environment says where to
// record: somebody on the way set PYTHONPATH anew. "python3 (process 17)", or nothing.
std::string without_kit(const fs::path& kit, const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    const std::string number = it->path().filename().string();
    if (number.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string program = fs::read_symlink(it->path() / "exe", error).filename().string();
    if (std::exchange(error, {}) || !program.starts_with("python")) continue;
    std::ifstream file(it->path() / "environ", std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto variable = [text = std::string_view(text)](const std::string& name) {
      for (std::string_view rest = text; !rest.empty();) {
        const std::string_view item = rest.substr(0, rest.find('\0'));
        if (item.starts_with(name + "=")) return item.substr(name.size() + 1);
        rest.remove_prefix(std::min(item.size() + 1, rest.size()));
      }
      return std::string_view();
    };
    if (variable("COLLECT_WORKLOADS_RECORD") == fs::absolute(folder).string() &&
        variable("PYTHONPATH").find(kit.string()) == std::string_view::npos)
      return fmt::format("{} (process {})", program, number);
  }
  return {};
}

// What came into the folder, and what to do with it.
std::string describe_recordings(const fs::path& folder, const std::set<std::string>& before,
                                const std::vector<std::string>& only, const cw::ExitStatus& status,
                                const std::string& without) {
  std::size_t files = 0;
  std::uint64_t bytes = 0;
  for (const std::string& name : recordings_in(folder)) {
    if (before.contains(name)) continue;
    std::error_code error;
    ++files;
    bytes += fs::file_size(folder / name, error);
  }
  const std::string ended =
      status.is_success() ? "" : fmt::format("the command ended with {}; ", to_string(status));
  if (files == 0 && !only.empty())
    return wrap(
        fmt::format("collect-workloads: {}nothing was recorded: no process called {}, which --only "
                    "names; names "
                    "are as inspect shows them: rmsnorm, BatchDecodeWithPagedKVCacheWrapper.run",
                    ended, fmt::join(only, ", ")),
        80, "");
  if (files == 0 && !without.empty())
    return wrap(fmt::format("collect-workloads: {}nothing was recorded: the recorder is loaded by "
                            "PYTHONPATH, and {} "
                            "has another: a script sets it anew. Let it keep what is there: "
                            "export PYTHONPATH=…:$PYTHONPATH",
                            ended, without),
                80, "");
  if (files == 0)
    return wrap(fmt::format("collect-workloads: {}{}", ended, nothing_recorded), 80, "");
  return fmt::format(
      "collect-workloads: {}{} process{} recorded, {:.1f} MB in {}\n"
      "Next:\n  collect-workloads inspect {} --trace-dir DATASET\n  collect-workloads sanitize "
      "--dumps {} --trace-dir "
      "DATASET\n",
      ended, files, files == 1 ? "" : "es", static_cast<double>(bytes) / 1e6, folder.string(),
      to_shell({{folder.string()}}), to_shell({{folder.string()}}));
}

}  // namespace

std::string describe_lost(const LostCalls& lost) {
  if (lost.processes == 0) return {};
  const auto counted = [](std::uint64_t count, std::string_view one, std::string_view more) {
    return fmt::format("{} {}", with_separators(count), count == 1 ? one : more);
  };
  std::string what = lost.calls > 0 ? counted(lost.calls, "call", "calls") : "";
  if (lost.replays > 0)
    what += (what.empty() ? "" : " and ") +
            counted(lost.replays, "replay of a graph", "replays of graphs");
  return fmt::format("{} made last by {} that did not end in order (killed, os._exit) {} missing",
                     what, counted(lost.processes, "process", "processes"),
                     lost.calls + lost.replays == 1 ? "is" : "are");
}

Result<std::vector<std::pair<std::string, std::string>>> recorder_variables(
    const RecorderArguments& arguments, const BindingSet& bindings, const fs::path& folder) {
  std::string rules(built_in_recorder_rules());
  if (!arguments.rules.empty()) {
    CW_TRY(rules, read_file(AT_FDCWD, arguments.rules.string(), 1 << 20));
  }
  CW_TRY(const Json config,
         recorder_config(bindings, rules, arguments.only).map_error([&](Error error) {
           if (!arguments.rules.empty())
             error.message =
                 fmt::format("{}: {}; begin with a copy of data/recorder.yaml, which is used whole",
                             arguments.rules.string(), error.message);
           return error;
         }));
  const auto kit = unpack_recorder(config);
  if (!kit)
    return tl::unexpected(kit.error().code == "unwritable" || kit.error().code == "not_private"
                              ? Error{"cache_unusable", kit.error().message}
                              : kit.error());
  return recorder_environment(*kit, {folder, arguments.budget, arguments.keeps_values});
}

int run_record(const RecordArguments& arguments, const CommonArguments& common) {
  const auto bindings = load_bindings(common);
  if (!bindings) return report(bindings.error());
  const fs::path folder =
      arguments.folder.empty() ? first_unused("recording-" + timestamp()) : arguments.folder;
  RecorderArguments recorder = arguments.recorder;
  recorder.only.insert(arguments.only.begin(), arguments.only.end());
  auto variables = recorder_variables(recorder, *bindings, folder);
  if (!variables) return report(variables.error());
  std::error_code ignored;
  const bool is_new = !fs::exists(folder, ignored);
  if (const auto made = make_private_directories(folder); !made)
    return report(made.error(), "Give another folder with -o.");
  const std::set<std::string> before = recordings_in(folder);
  std::string kit;  // the first of the folders that Python looks into
  for (const auto& [name, value] : *variables)
    if (name == "PYTHONPATH") kit = value.substr(0, value.find(':'));
  CallCounts counts;
  variables->push_back(counts.environment());
  Command command{arguments.command};
  // NAME=value in front of it, as in a shell.
  command.environment = take_assignments(command.arguments);
  add_capture_variables(command, std::move(*variables));
  if (command.arguments.empty())
    return report({"usage", "there is no command to record"},
                  "Give it after --, as you would type it.");
  std::string without;
  auto next_look = std::chrono::milliseconds(100);
  const auto status = run_in_foreground(command, [&] {
    if (recordings_in(folder) != before) return std::chrono::milliseconds(0);
    without = without_kit(kit, folder);
    next_look = without.empty() && next_look < std::chrono::minutes(2)
                    ? 2 * next_look
                    : std::chrono::milliseconds(0);
    return next_look;
  });
  const LostCalls lost = counts.settle(folder, std::chrono::seconds(2));
  if (is_new) ::rmdir(folder.c_str());  // when nothing was recorded
  if (!status) return report(status.error(), "Give the command after --, as you would type it.");
  if (!common.is_quiet) {
    print(stderr, describe_recordings(folder, before, arguments.only, *status, without));
    if (const std::string text = describe_lost(lost); !text.empty())
      print(stderr, wrap("collect-workloads: " + text, 80, ""));
  }
  end_like(*status);
}

}  // namespace cw::cli
