#include <algorithm>
#include <cstdio>

#include "base/console.h"
#include "base/file.h"
#include "base/process.h"
#include "cli/commands.h"
#include "submit/token.h"

namespace cw::cli {
namespace {

constexpr std::size_t most_failures_shown = 10;

std::string advice(const Error& error, const VerifyOptions& options) {
  if (error.code == "python_failed" && error.message.find("No module named") != std::string::npos)
    return fmt::format(
        "flashinfer-bench and PyTorch are needed there:\n  {} -m pip install torch safetensors "
        "flashinfer-bench\n"
        "or name a Python that has them, with --python.",
        options.python);
  std::error_code ignored;
  if (error.code == "python_failed" && std::filesystem::file_size(options.log, ignored) > 0 &&
      !ignored)
    return "What Python printed:\n  tail " + to_shell({{options.log.string()}});
  if (error.code == "replay_failed")
    return "The workloads are verified; the dumps are not. They run in the engine's environment, "
           "on its GPU: name that "
           "Python "
           "with --engine-python.";
  if (error.code == "no_workloads" || error.code == "definition_unknown")
    return "Check --trace-dir, --definition-name and --op-type.";
  return {};
}

// Of those that were verified now.
std::vector<std::pair<std::string, const DefinitionVerification*>> chosen(
    const Verification& verification, const VerifyOptions& options) {
  std::vector<std::pair<std::string, const DefinitionVerification*>> result;
  for (const auto& [name, definition] : verification.definitions) {
    const auto& names = options.definition_names;
    if (names.empty() || std::find(names.begin(), names.end(), name) != names.end())
      result.emplace_back(name, &definition);
  }
  return result;
}

std::string describe(const Verification& verification, const VerifyOptions& options) {
  std::string text = fmt::format("{:<48}{:>10}{:>7}{:>9}{:>7}\n", "definition", "workloads",
                                 "loaded", "executed", "failed");
  std::string failures;
  std::size_t shown = 0, all = 0;
  for (const auto& [name, definition] : chosen(verification, options)) {
    const std::string executed = definition->reference == Reference::ran
                                     ? with_separators(definition->executed)
                                 : definition->reference == Reference::absent ? "no ref."
                                                                              : "not run";
    text += fmt::format("{:<48}{:>10}{:>7}{:>9}{:>7}\n", name,
                        with_separators(definition->workloads), with_separators(definition->loaded),
                        executed, with_separators(definition->failures.size()));
    for (const VerificationFailure& failure : definition->failures)
      if (++all; shown < most_failures_shown) {
        ++shown;
        failures += wrap(
            fmt::format("{} {} ({}): {}", name, failure.workload, failure.stage, failure.message),
            80, "  ");
      }
  }
  if (all > shown)
    failures += fmt::format("  and {} more, in {}\n", all - shown, verification_file);
  if (!failures.empty()) text += "\nfailed:\n" + failures;
  if (const auto& replay = verification.replay; replay && !options.dumps.empty()) {
    text += fmt::format(
        "\nreplay: {} of {} calls passed, {} of them with outputs to compare\n"
        "        {} failed, {} cannot be run again (their constructor was not dumped){}\n",
        with_separators(replay->passed), with_separators(replay->dumps),
        with_separators(replay->compared), with_separators(replay->failed),
        with_separators(replay->skipped),
        replay->undecided == 0 ? ""
                               : fmt::format("\n        {} undecided: replay cannot compare them",
                                             with_separators(replay->undecided)));
    for (const auto& [reason, count] : replay->reasons)
      text += wrap(fmt::format("{} × {}", with_separators(count), reason), 80, "  ");
    for (const std::string& failure : replay->failures) text += wrap(failure, 80, "  ");
  }
  const std::string device = string_member(verification.environment, "device");
  std::size_t workloads = 0, loaded = 0, executed = 0;
  bool has_none = true;  // no reference
  for (const auto& [name, definition] : chosen(verification, options)) {
    workloads += definition->workloads;
    loaded += definition->loaded;
    executed += definition->executed;
    has_none &= definition->reference == Reference::absent;
  }
  text += '\n';
  text +=
      wrap(fmt::format("{} of {} workloads loaded, {} run through their reference{}, on {}. In {}.",
                       with_separators(loaded), with_separators(workloads),
                       with_separators(executed), has_none ? " (no definition here has one)" : "",
                       device.empty() ? "?" : device, (options.root / verification_file).string()),
           80, "");
  return text;
}

}  // namespace

int run_verify(const VerifyArguments& arguments, const CommonArguments& common) {
  watch_signals();
  hide_token();  // a reference is code of others
  VerifyOptions options = arguments.options;
  if (!arguments.venv.empty()) options.python = (arguments.venv / "bin/python").string();
  const auto state = state_folder();
  if (!state) return report(state.error());
  options.log = *state / "verify.log";
  ProgressLine progress(common.is_quiet);
  options.progress = [&](std::size_t done, std::size_t all, const std::string& what) {
    progress.update(
        fmt::format("{} of {} workloads  {}", with_separators(done), with_separators(all), what));
  };
  const auto verification = verify(options);
  progress.clear();
  if (!verification) {
    const int status = report(verification.error(), advice(verification.error(), options));
    return verification.error().code == "no_workloads" ? exit_no_workloads
           : stop_signal() != 0                        ? 128 + stop_signal()
                                                       : status;
  }
  bool is_passed =
      !verification->replay || options.dumps.empty() || verification->replay->failed == 0;
  for (const auto& [name, definition] : chosen(*verification, options))
    is_passed &= definition->failures.empty();
  if (common.is_json) {
    Json json = {{"passed", is_passed}};
    json.update(to_json(*verification));
    print_json(json);
  } else {
    print(stdout, describe(*verification, options));
  }
  return is_passed ? exit_success : exit_failure;
}

}  // namespace cw::cli
