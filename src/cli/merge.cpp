#include "dataset/merge.h"

#include <cstdio>

#include "base/console.h"
#include "cli/command.h"
#include "cli/errors.h"
#include "cli/texts.h"

namespace cw::cli {
namespace {

MergedDefinition sum_of(const std::vector<MergedDefinition>& definitions) {
  MergedDefinition sum;
  for (const MergedDefinition& definition : definitions) {
    sum.given += definition.given;
    sum.distinct += definition.distinct;
    sum.kept += definition.kept;
  }
  return sum;
}

Json to_json(const MergeOutcome& merged, const std::vector<std::filesystem::path>& inputs) {
  Json definitions = Json::object(), others = Json::object();
  for (const MergedDefinition& definition : merged.definitions)
    definitions[definition.name] = {
        {"given", definition.given}, {"distinct", definition.distinct}, {"kept", definition.kept}};
  for (const auto& input : inputs)
    if (auto names = others_in(input); !names.empty()) others[input.string()] = std::move(names);

  const MergedDefinition sum = sum_of(merged.definitions);
  return {
      {"datasets", inputs.size()},
      {"given", sum.given},
      {"distinct", sum.distinct},
      {"kept", sum.kept},
      {"captures", merged.captures},
      {"blobs", {{"linked", merged.linked}, {"copied", merged.copied}, {"bytes", merged.bytes}}},
      {"left_behind", std::move(others)},
      {"differences", merged.differences},
      {"definitions", std::move(definitions)}};
}

class MergeCommand final : public Command {
 public:
  std::string name() const override { return "merge"; }
  std::string description() const override { return "Merge datasets from shards, models or hosts"; }

  void declare(Options& options) override {
    options.value("dataset", inputs_, "Datasets to merge").required().meta("DIR");
    options.value("-o,--out", output_, "Where the merged dataset goes").required().meta("DIR");
    options
        .value("--num-samples", options_.num_samples,
               "Keep at most N per definition, as sanitize does;\n"
               "the rest is dropped (default: all)")
        .range(1, 1'000'000)
        .meta("N");
    options.flag("--dry-run", options_.is_dry_run, "Compare only; write nothing");
  }

  int run(const CommonArguments& common) override {
    ProgressLine progress(common.is_quiet);
    options_.progress = [&](std::size_t workloads) {
      progress.update(fmt::format("{} workloads read", with_separators(workloads)));
    };
    const auto merged = merge(inputs_, output_, options_);
    progress.clear();
    if (!merged) return print_error(merged.error());

    if (common.is_json)
      print_json(to_json(*merged, inputs_));
    else
      print(stdout, describe(*merged));
    return sum_of(merged->definitions).kept == 0 ? exit_no_workloads : exit_success;
  }

 private:
  std::string describe(const MergeOutcome& merged) const {
    std::string text =
        fmt::format("{:<52}{:>8}{:>10}{:>8}\n", "definition", "given", "distinct", "kept");
    const auto row = [&text](std::string_view name, const MergedDefinition& counts) {
      text += fmt::format("{:<52}{:>8}{:>10}{:>8}\n", name, with_separators(counts.given),
                          with_separators(counts.distinct), with_separators(counts.kept));
    };
    for (const MergedDefinition& definition : merged.definitions) row(definition.name, definition);
    const MergedDefinition sum = sum_of(merged.definitions);
    row("all", sum);
    if (options_.is_dry_run) return text + "Nothing was written (--dry-run).\n";

    text += fmt::format("{}: {} capture{}, {} blobs linked, {} copied\n", output_.string(),
                        merged.captures, merged.captures == 1 ? "" : "s",
                        with_separators(merged.linked), with_separators(merged.copied));
    if (merged.simulated > 0)
      text += fmt::format("Simulated captures: {}. submit refuses their definitions.\n",
                          merged.simulated);
    for (const std::string& difference : merged.differences)
      text += wrap("Note: " + difference, 80, "");
    text += describe_others(inputs_);
    if (sum.kept > 0) text += "\nNext:\n" + next_commands(output_, merged.simulated > 0);
    return text;
  }

  std::vector<std::filesystem::path> inputs_;
  std::filesystem::path output_;
  MergeOptions options_;
};

}  // namespace

std::unique_ptr<Command> make_merge() {
  return std::make_unique<MergeCommand>();
}

}  // namespace cw::cli
