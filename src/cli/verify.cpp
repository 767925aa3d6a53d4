#include "verify/verify.h"

#include <algorithm>
#include <cstdio>

#include "base/console.h"
#include "base/file.h"
#include "base/process.h"
#include "cli/command.h"
#include "cli/errors.h"
#include "cli/shared_options.h"
#include "submit/token.h"

namespace cw::cli {
namespace {

constexpr std::size_t max_failures_shown = 10;

std::string advice(const Error& error, const VerifyOptions& options) {
  if (error.code == "python_failed" && error.message.find("No module named") != std::string::npos)
    return fmt::format(
        "flashinfer-bench and PyTorch are needed there:\n  {} -m pip install torch safetensors "
        "flashinfer-bench\n"
        "or pass a Python that has them with --python.",
        options.python);
  std::error_code ignored;
  if (error.code == "python_failed" && std::filesystem::file_size(options.log, ignored) > 0 &&
      !ignored)
    return "What Python printed:\n  tail " + to_shell({{options.log.string()}});
  if (error.code == "replay_failed")
    return "The workloads are verified; the dumps are not. Dumps run in the engine's environment, "
           "on its GPU: pass its Python with --engine-python.";
  if (error.code == "no_workloads" || error.code == "definition_unknown")
    return "Check --trace-dir, --definition-name and --op-type.";
  return {};
}

// How many were run through their reference, or why none was.
std::string executed(const DefinitionVerification& definition) {
  switch (definition.reference) {
    case Reference::ran:
      return with_separators(definition.executed);
    case Reference::absent:
      return "no ref.";
    case Reference::not_run:
      return "not run";
  }
  return "";
}

// What `flashinfer replay` said of the recorded calls.
std::string describe(const ReplayVerification& replay) {
  std::string text = fmt::format(
      "\nreplay: {} of {} calls passed, {} of them with outputs to compare\n"
      "        {} failed, {} cannot be replayed (their constructor was not dumped){}\n",
      with_separators(replay.passed), with_separators(replay.dumps),
      with_separators(replay.compared), with_separators(replay.failed),
      with_separators(replay.skipped),
      replay.undecided == 0 ? ""
                            : fmt::format("\n        {} undecided: replay cannot compare them",
                                          with_separators(replay.undecided)));
  for (const auto& [reason, count] : replay.reasons)
    text += wrap(fmt::format("{} × {}", with_separators(count), reason), 80, "  ");
  for (const std::string& failure : replay.failures) text += wrap(failure, 80, "  ");
  return text;
}

std::string describe(const VerifyOutcome& outcome, const VerifyOptions& options) {
  const Verification& verification = outcome.file;
  std::string text = fmt::format("{:<48}{:>10}{:>7}{:>9}{:>7}\n", "definition", "workloads",
                                 "loaded", "executed", "failed");
  std::string failures;
  std::size_t shown = 0, all = 0;

  // One row per definition, and the first failures in full.
  for (const std::string& name : outcome.definitions) {
    const DefinitionVerification& definition = verification.definitions.at(name);
    text += fmt::format("{:<48}{:>10}{:>7}{:>9}{:>7}\n", name,
                        with_separators(definition.workloads), with_separators(definition.loaded),
                        executed(definition), with_separators(definition.failures.size()));
    for (const VerificationFailure& failure : definition.failures)
      if (++all; shown < max_failures_shown) {
        ++shown;
        failures += wrap(
            fmt::format("{} {} ({}): {}", name, failure.workload, failure.stage, failure.message),
            80, "  ");
      }
  }

  if (all > shown)
    failures += fmt::format("  and {} more, in {}\n", all - shown, verification_file);
  if (!failures.empty()) text += "\nfailed:\n" + failures;

  if (verification.replay && !options.dumps.empty()) text += describe(*verification.replay);

  // The sum over all definitions.
  const std::string device = string_member(verification.environment, "device");
  std::size_t workloads = 0, loaded = 0, run = 0;
  bool has_none = true;  // no reference
  for (const std::string& name : outcome.definitions) {
    const DefinitionVerification& definition = verification.definitions.at(name);
    workloads += definition.workloads;
    loaded += definition.loaded;
    run += definition.executed;
    has_none &= definition.reference == Reference::absent;
  }

  text += '\n';
  text +=
      wrap(fmt::format("{} of {} workloads loaded, {} run through a reference{}, on {}. See {}.",
                       with_separators(loaded), with_separators(workloads), with_separators(run),
                       has_none ? " (no definition here has one)" : "",
                       device.empty() ? "?" : device, (options.root / verification_file).string()),
           80, "");
  return text;
}

class VerifyCommand final : public Command {
 public:
  std::string name() const override { return "verify"; }
  std::string description() const override { return "Load and run every workload; replay dumps"; }

  void declare(Options& options) override {
    add_dataset(options, options_.root, "The dataset; verification.json is written here");
    add_definitions(options, options_.definition_names, options_.op_types);

    // Which Python, and what it runs.
    options.value("--python", options_.python, "Python with flashinfer-bench and PyTorch")
        .shows_default()
        .meta("PATH");
    options.value("--venv", venv_, "Virtual environment with both")
        .excludes("--python")
        .meta("DIR");
    options.flag("--reference,!--no-reference", options_.runs_reference,
                 "Run each through its definition's reference, if\nit has one (default)");
    options.value("--device", options_.device, "cpu, cuda, cuda:1, …; auto: a GPU if there is one")
        .shows_default()
        .meta("NAME");

    options.value("--limit", options_.limit_seconds, "Time limit per workload, in seconds")
        .range(1, 1'000'000)
        .shows_default()
        .meta("N");

    // Recorded calls that are run again.
    options
        .value("--dumps", options_.dumps,
               "Rerun these dumps with flashinfer replay and\ncompare the outputs")
        .meta("DIR");
    options
        .value("--engine-python", options_.engine_python,
               "Python with FlashInfer, for --dumps (default:\n--python's)")
        .meta("PATH");
  }

  int run(const CommonArguments& common) override {
    watch_signals();
    hide_token();  // a reference is code of others
    if (!venv_.empty()) options_.python = (venv_ / "bin/python").string();
    const auto state = state_folder();
    if (!state) return print_error(state.error());
    options_.log = *state / "verify.log";

    ProgressLine progress(common.is_quiet);
    options_.progress = [&](std::size_t done, std::size_t all, const std::string& what) {
      progress.update(
          fmt::format("{} of {} workloads  {}", with_separators(done), with_separators(all), what));
    };
    const auto outcome = verify(options_);
    progress.clear();
    if (!outcome) return report_failure(outcome.error());

    // All that was verified now.
    bool is_passed =
        !outcome->file.replay || options_.dumps.empty() || outcome->file.replay->failed == 0;
    for (const std::string& name : outcome->definitions)
      is_passed &= outcome->file.definitions.at(name).failures.empty();
    if (common.is_json) {
      Json json = {{"passed", is_passed}};
      json.update(to_json(outcome->file));
      print_json(json);
    } else {
      print(stdout, describe(*outcome, options_));
    }
    return is_passed ? exit_success : exit_failure;
  }

 private:
  int report_failure(const Error& error) const {
    const int status = print_error(error, advice(error, options_));
    if (error.code == "no_workloads") return exit_no_workloads;
    return stop_signal() != 0 ? 128 + stop_signal() : status;
  }

  VerifyOptions options_;
  std::filesystem::path venv_;
};

}  // namespace

std::unique_ptr<Command> make_verify() {
  return std::make_unique<VerifyCommand>();
}

}  // namespace cw::cli
