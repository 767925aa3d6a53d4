#include "sanitize/sanitize.h"

#include <cstdio>

#include "base/console.h"
#include "cli/command.h"
#include "cli/errors.h"
#include "cli/shared_options.h"
#include "cli/texts.h"
#include "sanitize/section.h"

namespace cw::cli {
namespace {

class SanitizeCommand final : public Command {
 public:
  std::string name() const override { return "sanitize"; }
  std::string description() const override { return "Turn a capture into workloads of a dataset"; }

  void declare(Options& options) override {
    options.value("--input,--dumps", captures_, "Folders of dumps or recordings, or a parent")
        .required()
        .meta("DIR");
    add_dataset(options, trace_dir_, "The dataset, with its definitions");
    add_definitions(options, options_.definition_names, options_.op_types);
    add_selection(options, options_);
    options.flag("--dry-run", options_.is_dry_run, "Write nothing");
  }

  int run(const CommonArguments& common) override {
    const auto bindings = BindingSet::load(common.bindings);
    if (!bindings) return print_error(bindings.error());
    const auto dataset = Dataset::open(trace_dir_);
    if (!dataset) return print_error(dataset.error());
    for (const BadDefinition& bad : dataset->bad_definitions)
      print(stderr, fmt::format("collect-workloads: warning: skipped: {}\n", bad.error.message));
    const auto capture = open_capture(captures_);
    if (!capture) return print_error(capture.error());

    ProgressLine progress(common.is_quiet);
    options_.progress = [&progress, total = (*capture)->size()](std::size_t done) {
      // How many a recording has is only known at its end.
      const std::string all = total == 0 ? "" : " of " + with_separators(total);
      progress.update(fmt::format("{}{} calls", with_separators(done), all));
    };
    const auto outcome = sanitize(**capture, *dataset, *bindings, options_);
    progress.clear();
    if (!outcome) return print_error(outcome.error());

    const auto [kept, added] = count_kept(*outcome);
    if (common.is_json) {
      Json json = section_of(**capture, *outcome, options_).to_json();
      json["added"] = added;
      json["dry_run"] = options_.is_dry_run;
      print_json(json);
    } else {
      print(stdout, describe(*outcome, options_.definition_names));
      print(stdout, next_steps(*outcome, {.trace_dir = trace_dir_,
                                          .is_dry_run = options_.is_dry_run,
                                          .is_simulated = outcome->survey.is_simulated,
                                          .capture = captures_[0].string()}));
    }
    return kept > 0 ? exit_success : exit_no_workloads;
  }

 private:
  std::vector<std::filesystem::path> captures_;
  std::filesystem::path trace_dir_;
  SanitizeOptions options_;
};

}  // namespace

std::unique_ptr<Command> make_sanitize() {
  return std::make_unique<SanitizeCommand>();
}

}  // namespace cw::cli
