#include <algorithm>
#include <cstdio>
#include <set>

#include <fmt/ranges.h>
#include <unistd.h>

#include "base/console.h"
#include "base/file.h"
#include "base/shell.h"
#include "base/time.h"
#include "bind/needs.h"
#include "capture/environment.h"
#include "capture/recorder/bundle.h"
#include "capture/recorder/lost.h"
#include "capture/recorder/method.h"
#include "capture/recorder/recording_capture.h"
#include "cli/command.h"
#include "cli/errors.h"
#include "cli/shared_options.h"
#include "cli/texts.h"
#include "engine/doctor.h"
#include "engine/host.h"

namespace cw::cli {
namespace {

namespace fs = std::filesystem;

// Between looks for a Python without the recorder: twice as long each time, up to this.
constexpr std::chrono::milliseconds first_look{100};
constexpr std::chrono::minutes last_look{2};
// For the processes that were killed and have not quite ended.
constexpr std::chrono::seconds dying_limit{2};

std::set<std::string> recordings_in(const fs::path& folder) {
  return recording::RecordingCapture::names_in(folder).value_or(std::set<std::string>());
}

// The value of a variable in a process's environment, NAME=value after NAME=value; empty: not set.
std::string_view variable_of(std::string_view environment, const std::string& name) {
  for (std::string_view rest = environment; !rest.empty();) {
    const std::string_view item = rest.substr(0, rest.find('\0'));
    if (item.starts_with(name + "=")) return item.substr(name.size() + 1);
    rest.remove_prefix(std::min(item.size() + 1, rest.size()));
  }
  return {};
}

// A Python of the command's that the recorder is not in, though its environment says where to
// record: somebody on the way set PYTHONPATH anew. "python3 (process 17)", or nothing.
std::string find_python_without(const fs::path& bundle, const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    const std::string number = it->path().filename().string();
    if (number.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string program = fs::read_symlink(it->path() / "exe", error).filename().string();
    if (std::exchange(error, {}) || !program.starts_with("python")) continue;

    const std::string text = read_pseudo_file((it->path() / "environ").string()).value_or("");
    const bool is_recorded =
        variable_of(text, "COLLECT_WORKLOADS_RECORD") == fs::absolute(folder).string();
    const bool has_bundle =
        variable_of(text, "PYTHONPATH").find(bundle.string()) != std::string_view::npos;
    if (is_recorded && !has_bundle) return fmt::format("{} (process {})", program, number);
  }
  return {};
}

class RecordCommand final : public Command {
 public:
  std::string name() const override { return "record"; }
  std::string description() const override { return "Run any command and record its calls"; }
  bool has_json() const override { return false; }  // stdout is the command's

  void declare(Options& options) override {
    options.value("-o,--out,--output", folder_, "Folder to record to (default: ./recording-TIME)")
        .meta("DIR");
    add_recorder(options, capture_);
    options.flag("--keep-values", capture_.keeps_values,
                 "Also keep the values of floats that steer\nkernels: top_p, routing_logits");
    options
        .value("--only", only_,
               "Record only these functions, named as inspect\n"
               "shows them; unhooked functions cost nothing")
        .meta("NAME");
    options.footer(
        "Exits as the command does: with its exit status, or by the signal that ended\n"
        "it; with 1 if it could not be started, 2 for wrong usage. Its output is left\n"
        "alone, and signals sent to us are forwarded to it.");
    options.value("COMMAND", leading_words_, "The command to record, after --").meta("COMMAND");
  }

  /// The command to record is taken off first: after an option that takes several words the "--"
  /// would only end that.
  Result<std::vector<std::string>> expand(std::vector<std::string> words) override {
    const auto end = std::ranges::find(words, "--");
    if (end == words.end()) return words;
    words_.assign(end + 1, words.end());
    words.erase(end, words.end());
    return words;
  }

  std::string missing() const override {
    return leading_words_.empty() && words_.empty() ? "COMMAND" : "";
  }
  std::string usage_advice() const override {
    return words_.empty() ? "Give the command to record after --, as you would type it." : "";
  }

  int run(const CommonArguments& common) override {
    const auto bindings = BindingSet::load(common.bindings);
    if (!bindings) return print_error(bindings.error());
    const fs::path folder = folder_.empty() ? first_unused("recording-" + timestamp()) : folder_;
    CaptureNeeds needs = needs_of(*bindings);
    needs.calls.insert(only_.begin(), only_.end());
    auto variables = recording::recorder_method().environment(folder, needs, capture_);
    if (!variables) return print_error(variables.error());

    // The command, and what of its installation will not be seen.
    std::vector<std::string> words = leading_words_;
    words.insert(words.end(), words_.begin(), words_.end());
    cw::Command command{std::move(words)};
    command.environment = take_assignments(command.arguments);  // in front of it, as in a shell
    if (command.arguments.empty())
      return print_error({"usage", "no command to record was given"},
                         "Give it after --, as you would type it.");
    if (!common.is_quiet) warn(command);

    std::error_code ignored;
    const bool is_new = !fs::exists(folder, ignored);
    if (const auto made = make_private_directories(folder); !made)
      return print_error(made.error(), "Give another folder with -o.");
    recording::CallCounts counts;
    variables->push_back(counts.environment());

    // The first of the folders that Python looks into is the bundle.
    std::string bundle;
    for (const auto& [name, value] : *variables)
      if (name == "PYTHONPATH") bundle = value.substr(0, value.find(':'));
    add_capture_variables(command, std::move(*variables));
    return run_recorded(command, folder, bundle, counts, is_new, common.is_quiet);
  }

 private:
  // Says what of the command's installation will not be recorded, as far as that can be told.
  void warn(const cw::Command& command) const {
    const auto rules = recording::recorder_method().rules(capture_);
    for (const std::string& doubt :
         doubts(python_of(command.arguments), rules.value_or(""), command.environment))
      print(stderr, wrap("collect-workloads: " + doubt, 80, ""));
  }

  // Ends this process as the command ended, unless it could not be started.
  int run_recorded(const cw::Command& command, const fs::path& folder, const std::string& bundle,
                   recording::CallCounts& counts, bool is_new, bool is_quiet) const {
    const std::set<std::string> before = recordings_in(folder);
    std::string without_recorder;
    auto next_look = first_look;
    const auto status = run_in_foreground(command, [&] {
      constexpr std::chrono::milliseconds never{0};
      if (recordings_in(folder) != before) return never;
      without_recorder = find_python_without(bundle, folder);
      next_look = without_recorder.empty() && next_look < last_look ? 2 * next_look : never;
      return next_look;
    });

    const recording::LostCalls lost = counts.settle(folder, dying_limit);
    const auto reach = counts.reach();
    if (is_new) ::rmdir(folder.c_str());  // when nothing was recorded
    if (!status)
      return print_error(status.error(), "Give the command after --, as you would type it.");
    if (!is_quiet) {
      print(stderr, describe_recordings(folder, before, *status, without_recorder, reach));
      if (const std::string text = describe(lost); !text.empty())
        print(stderr, wrap("collect-workloads: " + text, 80, ""));
    }
    end_like(*status);
  }

  // What came into the folder, and what to do with it.
  std::string describe_recordings(const fs::path& folder, const std::set<std::string>& before,
                                  const cw::ExitStatus& status, const std::string& without_recorder,
                                  const std::optional<Reach>& reach) const {
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
    if (files == 0)
      return wrap("collect-workloads: " + ended + why_nothing(without_recorder, reach), 80, "");

    const std::string quoted = to_shell({{folder.string()}});
    return fmt::format(
        "collect-workloads: {}{} process{} recorded, {:.1f} MB in {}\n"
        "Next:\n"
        "  collect-workloads inspect {} --trace-dir DATASET\n"
        "  collect-workloads sanitize --input {} --trace-dir DATASET\n",
        ended, files, files == 1 ? "" : "es", static_cast<double>(bytes) / 1e6, folder.string(),
        quoted, quoted);
  }

  std::string why_nothing(const std::string& without_recorder,
                          const std::optional<Reach>& reach) const {
    const bool has_flashinfer = !reach || reach->flashinfers > 0;
    if (!only_.empty() && has_flashinfer)
      return fmt::format(
          "nothing was recorded: no process called {}, given by --only; use names as inspect "
          "shows them: rmsnorm, BatchDecodeWithPagedKVCacheWrapper.run",
          fmt::join(only_, ", "));
    if (!without_recorder.empty())
      return fmt::format(
          "nothing was recorded: the recorder is loaded through PYTHONPATH, but a script changed "
          "that of {}. Have the script keep what is there: export PYTHONPATH=…:$PYTHONPATH",
          without_recorder);
    return recording::why_nothing_recorded(reach);
  }

  fs::path folder_;  ///< empty: recording-TIME here
  std::vector<std::string> leading_words_, words_, only_;
  CaptureOptions capture_;
};

}  // namespace

std::unique_ptr<Command> make_record() {
  return std::make_unique<RecordCommand>();
}

}  // namespace cw::cli
