#include <cstdio>

#include "base/console.h"
#include "cli/commands.h"

namespace cw::cli {

int run_merge(const MergeArguments& arguments, const CommonArguments& common) {
  MergeOptions options = arguments.options;
  ProgressLine progress(common.is_quiet);
  options.progress = [&](std::size_t workloads) {
    progress.update(fmt::format("{} workloads read", with_separators(workloads)));
  };
  const auto merged = merge(arguments.inputs, arguments.output, options);
  progress.clear();
  if (!merged) return report(merged.error());
  MergedDefinition sum;
  for (const MergedDefinition& definition : merged->definitions) {
    sum.given += definition.given;
    sum.distinct += definition.distinct;
    sum.kept += definition.kept;
  }
  if (common.is_json) {
    Json definitions = Json::object();
    for (const MergedDefinition& definition : merged->definitions)
      definitions[definition.name] = {{"given", definition.given},
                                      {"distinct", definition.distinct},
                                      {"kept", definition.kept}};
    Json others = Json::object();
    for (const auto& input : arguments.inputs)
      if (auto names = others_in(input); !names.empty()) others[input.string()] = std::move(names);
    const Json json = {
        {"datasets", arguments.inputs.size()},
        {"given", sum.given},
        {"distinct", sum.distinct},
        {"kept", sum.kept},
        {"captures", merged->captures},
        {"blobs",
         {{"linked", merged->linked}, {"copied", merged->copied}, {"bytes", merged->bytes}}},
        {"left_behind", std::move(others)},
        {"differences", merged->differences},
        {"definitions", std::move(definitions)}};
    print_json(json);
  } else {
    std::string text =
        fmt::format("{:<52}{:>8}{:>10}{:>8}\n", "definition", "given", "distinct", "kept");
    const auto row = [&text](std::string_view name, const MergedDefinition& counts) {
      text += fmt::format("{:<52}{:>8}{:>10}{:>8}\n", name, with_separators(counts.given),
                          with_separators(counts.distinct), with_separators(counts.kept));
    };
    for (const MergedDefinition& definition : merged->definitions) row(definition.name, definition);
    row("all", sum);
    if (options.is_dry_run) {
      text += "Nothing was written (--dry-run).\n";
    } else {
      text +=
          fmt::format("{}: {} capture{}, {} blobs linked, {} copied\n", arguments.output.string(),
                      merged->captures, merged->captures == 1 ? "" : "s",
                      with_separators(merged->linked), with_separators(merged->copied));
      if (merged->simulated > 0)
        text += fmt::format("Simulated captures: {}. submit refuses their definitions.\n",
                            merged->simulated);
      for (const std::string& difference : merged->differences)
        text += wrap("Note: " + difference, 80, "");
      text += describe_others(arguments.inputs);
      if (sum.kept > 0)
        text += "\nNext:\n" + next_commands(arguments.output, merged->simulated > 0);
    }
    print(stdout, text);
  }
  return sum.kept == 0 ? exit_no_workloads : exit_success;
}

}  // namespace cw::cli
