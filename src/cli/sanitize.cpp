#include <algorithm>
#include <cstdio>

#include <fmt/ranges.h>

#include "base/console.h"
#include "capture/open.h"
#include "cli/commands.h"
#include "sanitize/section.h"

namespace cw::cli {
namespace {

// Definitions with rows of their own: those asked for by name, and all that got calls.
bool is_shown(const DefinitionOutcome& definition, const std::vector<std::string>& names) {
  return definition.calls > 0 ||
         std::find(names.begin(), names.end(), definition.definition->name) != names.end();
}

// Calls that no binding reads.
std::string describe_unread(const Survey& survey) {
  std::uint64_t calls = 0;
  std::vector<std::string> functions;
  for (const auto& [function, counts] : survey.functions) {
    if (counts.skipped == 0) continue;
    calls += counts.skipped;
    functions.push_back(fmt::format("{} ({})", function, with_separators(counts.skipped)));
  }
  if (calls == 0) return "";
  return "\n" + wrap(fmt::format("{} calls of functions that no binding reads: {}",
                                 with_separators(calls), fmt::join(functions, ", ")),
                     80, "  ");
}

}  // namespace

std::string describe(const SanitizeOutcome& outcome, const std::vector<std::string>& always_shown) {
  const Survey& survey = outcome.survey;
  std::string text = fmt::format(
      "{} calls of {} functions in {} process{}{}\n\n", with_separators(survey.calls),
      survey.functions.size(), survey.processes.size(), survey.processes.size() == 1 ? "" : "es",
      survey.flashinfer_versions.empty()
          ? ""
          : fmt::format(", FlashInfer {}", fmt::join(survey.flashinfer_versions, ", ")));
  text += "   new  kept distinct    calls  definition\n";
  std::size_t silent = 0;
  std::map<std::string, std::vector<std::string>> silent_asked;  // by what there is to say
  for (const DefinitionOutcome& definition : outcome.definitions) {
    if (!is_shown(definition, always_shown)) {
      if (definition.is_asked_for || definition.lacks_binding)
        silent_asked[definition.status].push_back(definition.definition->name);
      else
        ++silent;
      continue;
    }
    const std::string& name = definition.definition->name;
    text += fmt::format("{:>6}{:>6}{:>9}{:>9}{}{}\n", with_separators(definition.added()),
                        with_separators(definition.kept.size()),
                        with_separators(definition.distinct), with_separators(definition.calls),
                        name.size() > 48 ? "\n                  " : "  ", name);
    for (const auto& [scalar, count] : definition.derived)
      text += fmt::format("{:32}{} derived in {} calls\n", "", scalar, with_separators(count));
    if (const auto sampled = definition.unseen.find("values_sampled_out");
        sampled != definition.unseen.end())
      text += wrap(fmt::format("{} of the calls are counted without their index tensors (sampled)",
                               with_separators(sampled->second)),
                   80, std::string(32, ' '));
    if (!definition.status.empty()) text += wrap(definition.status, 80, std::string(32, ' '));
  }
  for (const auto& [status, names] : silent_asked)
    text += wrap(fmt::format("no calls for {}{}{}{}", names[0],
                             names.size() > 1 ? fmt::format(" and {} more", names.size() - 1) : "",
                             status.empty() ? "" : ": ", status),
                 80, std::string(32, ' '));
  if (silent > 0) text += fmt::format("{:32}(no calls for {} other definitions)\n", "", silent);
  text += describe_unread(survey);
  const std::string rejected = describe_tally(survey.tally, false);
  if (!rejected.empty()) text += "\nCalls that gave no workload, and defects\n" + rejected;
  return text;
}

std::string next_steps(const SanitizeOutcome& outcome, const std::filesystem::path& trace_dir,
                       bool is_dry_run, bool is_simulated, std::string_view capture) {
  const std::string dir = trace_dir.string();
  std::size_t added = 0, kept = 0;
  for (const DefinitionOutcome& definition : outcome.definitions) {
    added += definition.added();
    kept += definition.kept.size();
  }
  if (is_dry_run)
    return fmt::format("\nNothing was written (--dry-run); {} workloads would be new.\n", added);
  std::string text =
      outcome.recovered > 0
          ? fmt::format("\nTook back {} blobs of an interrupted run first.\n", outcome.recovered)
          : "";
  if (kept == 0)
    return text + (capture.empty()
                       ? "\nNo workloads. To see why, call by call, run it with --keep-dumps.\n"
                       : fmt::format("\nNo workloads. See why, call by call:\n  collect-workloads "
                                     "inspect {} --trace-dir {}\n",
                                     capture, dir));
  text += fmt::format("\n{} new workloads in\n  {}\nHow often each was seen is in {}.\n",
                      with_separators(added), (trace_dir / "workloads").string(), collection_file);
  return text + "Next:\n" + next_commands(trace_dir, is_simulated);
}

int run_sanitize(const SanitizeArguments& arguments, const CommonArguments& common) {
  const auto bindings = load_bindings(common);
  if (!bindings) return report(bindings.error());
  const auto dataset = Dataset::open(arguments.trace_dir);
  if (!dataset) return report(dataset.error());
  for (const BadDefinition& bad : dataset->bad_definitions)
    print(stderr, fmt::format("collect-workloads: warning: left out: {}\n", bad.error.message));
  const auto capture = open_capture(arguments.dumps);
  if (!capture) return report(capture.error());

  ProgressLine progress(common.is_quiet);
  SanitizeOptions options = arguments.options;
  options.progress = [&progress, total = (*capture)->size()](std::size_t done) {
    progress.update(fmt::format("{} of {} calls", with_separators(done), with_separators(total)));
  };
  auto outcome = sanitize(**capture, *dataset, *bindings, options);
  progress.clear();
  if (!outcome) return report(outcome.error());

  std::size_t added = 0, kept = 0;
  for (const DefinitionOutcome& definition : outcome->definitions) {
    added += definition.added();
    kept += definition.kept.size();
  }
  if (common.is_json) {
    Json json = collection_section(**capture, *outcome, options);
    json["added"] = added;
    json["dry_run"] = options.is_dry_run;
    print_json(json);
  } else {
    print(stdout, describe(*outcome, options.definition_names));
    print(stdout, next_steps(*outcome, arguments.trace_dir, options.is_dry_run,
                             outcome->survey.is_simulated, arguments.dumps[0].string()));
  }
  return kept > 0 ? exit_success : exit_no_workloads;
}

}  // namespace cw::cli
