#include "cli/texts.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "base/console.h"
#include "base/process.h"
#include "dataset/collection_file.h"

namespace cw::cli {
namespace {

// Where the names of definitions begin in the table.
const std::string name_column(32, ' ');

// Definitions with rows of their own: those asked for by name, and all that got calls.
bool is_shown(const DefinitionOutcome& definition, const std::vector<std::string>& names) {
  return definition.calls > 0 ||
         std::ranges::find(names, definition.definition->name) != names.end();
}

std::string row_of(const DefinitionOutcome& definition) {
  const std::string& name = definition.definition->name;
  constexpr std::size_t max_name = 48;  // that still fits beside the numbers
  std::string text =
      fmt::format("{:>6}{:>6}{:>9}{:>9}{}{}\n", with_separators(definition.added()),
                  with_separators(definition.kept.size()), with_separators(definition.distinct),
                  with_separators(definition.calls),
                  name.size() > max_name ? "\n                  " : "  ", name);
  for (const auto& [scalar, count] : definition.derived)
    text += fmt::format("{}{} derived in {} calls\n", name_column, scalar, with_separators(count));

  const auto sampled = definition.unseen.find("values_sampled_out");
  if (sampled != definition.unseen.end())
    text += wrap(fmt::format("{} of the calls were counted without their index tensors (sampled)",
                             with_separators(sampled->second)),
                 80, name_column);
  if (!definition.status.empty()) text += wrap(definition.status, 80, name_column);
  return text;
}

// Calls that no binding reads.
std::string describe_unread(const Survey& survey) {
  std::uint64_t calls = 0;
  std::vector<std::string> functions;
  for (const auto& [function, counts] : survey.functions) {
    const bool is_constructor = function.ends_with(".__init__");  // whose calls say nothing
    if (counts.skipped == 0 || is_constructor) continue;
    calls += counts.skipped;
    functions.push_back(fmt::format("{} ({})", function, with_separators(counts.skipped)));
  }
  if (calls == 0) return "";
  const std::string line = fmt::format("{} calls to functions that no binding covers: {}",
                                       with_separators(calls), fmt::join(functions, ", "));
  return fmt::format("\n{}", wrap(line, 80, "  "));
}

std::string milliseconds(double seconds) {
  return fmt::format("{:.1f}", seconds * 1000);
}

std::string row_of(const char* name, const Percentiles& p) {
  return fmt::format("  {:<24}{:>10}{:>10}{:>10}{:>10}\n", name, milliseconds(p.mean),
                     milliseconds(p.p50), milliseconds(p.p90), milliseconds(p.p99));
}

}  // namespace

std::string counted(std::uint64_t count, std::string_view one, std::string_view more) {
  return fmt::format("{} {}", with_separators(count), count == 1 ? one : more);
}

KeptCounts count_kept(const SanitizeOutcome& outcome) {
  KeptCounts counts;
  for (const DefinitionOutcome& definition : outcome.definitions) {
    counts.added += definition.added();
    counts.kept += definition.kept.size();
  }
  return counts;
}

std::string describe(const SanitizeOutcome& outcome, const std::vector<std::string>& always_shown) {
  const Survey& survey = outcome.survey;
  const std::string versions =
      survey.flashinfer_versions.empty()
          ? ""
          : fmt::format(", FlashInfer {}", fmt::join(survey.flashinfer_versions, ", "));
  std::string text =
      fmt::format("{} calls to {} functions in {} process{}{}\n\n", with_separators(survey.calls),
                  survey.functions.size(), survey.processes.size(),
                  survey.processes.size() == 1 ? "" : "es", versions);

  // A row for each that there is something to say of; the rest by what there is to say.
  text += "   new  kept distinct    calls  definition\n";
  std::size_t silent = 0;
  std::map<std::string, std::vector<std::string>> without_calls;
  for (const DefinitionOutcome& definition : outcome.definitions) {
    if (is_shown(definition, always_shown))
      text += row_of(definition);
    else if (definition.is_asked_for || definition.lacks_binding)
      without_calls[definition.status].push_back(definition.definition->name);
    else
      ++silent;
  }
  for (const auto& [status, names] : without_calls)
    text += wrap(fmt::format("no calls for {}{}{}{}", names[0],
                             names.size() > 1 ? fmt::format(" and {} more", names.size() - 1) : "",
                             status.empty() ? "" : ": ", status),
                 80, name_column);
  if (silent > 0)
    text += fmt::format("{}(no calls for {} other definitions)\n", name_column, silent);

  text += describe_unread(survey);
  const std::string rejected = describe_tally(survey.tally, TallyScope::losses);
  if (!rejected.empty()) text += "\nCalls that gave no workload, and defects\n" + rejected;
  return text;
}

std::string next_steps(const SanitizeOutcome& outcome, const NextSteps& steps) {
  const auto [kept, added] = count_kept(outcome);
  if (steps.is_dry_run)
    return fmt::format("\nNothing was written (--dry-run); {} workloads would be new.\n", added);

  std::string text =
      outcome.recovered > 0
          ? fmt::format("\nFirst rolled back {} blobs of an interrupted run.\n", outcome.recovered)
          : "";
  if (kept == 0 && steps.capture.empty())
    return text + "\nNo workloads. To see why, call by call, run it again with --keep-dumps.\n";
  if (kept == 0)
    return text + fmt::format(
                      "\nNo workloads. To see why, call by call:\n"
                      "  collect-workloads inspect {} --trace-dir {}\n",
                      steps.capture, steps.trace_dir.string());

  text += fmt::format("\n{} new workloads in\n  {}\nHow often each was seen is in {}.\n",
                      with_separators(added), (steps.trace_dir / "workloads").string(),
                      collection_file);
  return text + "Next:\n" + next_commands(steps.trace_dir, steps.is_simulated);
}

std::string next_commands(const std::filesystem::path& trace_dir, bool is_simulated) {
  std::string text;
  for (const char* command : {"validate", "verify", "report", "submit"}) {
    if (is_simulated && std::string_view(command) == "submit") continue;
    text += fmt::format("  collect-workloads {} --trace-dir {}\n", command,
                        to_shell({{trace_dir.string()}}));
  }
  return text;
}

std::string describe_others(const std::vector<std::filesystem::path>& roots) {
  std::string text;
  for (const std::filesystem::path& root : roots)
    if (const auto others = others_in(root); !others.empty())
      text +=
          wrap(fmt::format("Skipped in {}: {}", root.string(), fmt::join(others, ", ")), 80, "");
  return text;
}

std::string describe_tally(const Tally& tally, TallyScope scope) {
  std::vector<const std::pair<const TallyKey, TallyItem>*> items;
  for (const auto& item : tally.items())
    if (scope == TallyScope::everything ||
        (item.first.code != "no_definition" && item.first.code != "not_selected"))
      items.push_back(&item);
  std::ranges::stable_sort(items, [](const auto* a, const auto* b) {
    const auto left = severity_of(a->first.code), right = severity_of(b->first.code);
    return left != right ? left > right : a->second.count > b->second.count;
  });

  const std::string indent(21, ' ');
  std::string text;
  for (const auto* entry : items) {
    const auto& [key, item] = *entry;
    text += fmt::format("  {:<8}{:>9}  {}\n", name(severity_of(key.code)),
                        with_separators(item.count), key.code);
    if (!key.function.empty()) text += indent + "in " + key.function + "\n";
    text += wrap(item.message, 80, indent);
    if (!item.example.empty() && item.message.find(item.example) == std::string::npos)
      text += indent + "e.g. " + std::filesystem::path(item.example).filename().string() + "\n";
  }
  return for_terminal(text);
}

std::string describe(const TrafficReport& report) {
  const auto found = report.errors.find("given_up");  // an end that we made is no failure
  const std::size_t given_up = found == report.errors.end() ? 0 : found->second;
  std::string text = fmt::format(
      "{} requests in {:.1f} s: {} completed, {} failed{}{}\n"
      "{} input and {} output tokens, {:.0f} output tokens/s\n\n",
      with_separators(report.sent), report.seconds, with_separators(report.completed),
      with_separators(report.failed - given_up),
      given_up > 0 ? fmt::format(", {} abandoned", given_up) : "",
      report.retried > 0 ? fmt::format(", {} retried", report.retried) : "",
      with_separators(report.input_tokens), with_separators(report.output_tokens),
      report.output_rate());

  text += fmt::format("  {:<24}{:>10}{:>10}{:>10}{:>10}\n", "milliseconds", "mean", "p50", "p90",
                      "p99");
  text += row_of("time to first token", report.first_token) +
          row_of("time per output token", report.per_token) + row_of("request", report.whole);

  for (const auto& [kind, count] : report.errors)
    if (kind != "given_up") text += fmt::format("  {} × {}\n", with_separators(count), kind);
  if (report.failed > given_up && !report.example_error.empty())
    text += wrap("e.g. " + report.example_error, 80, "  ");
  if (!report.warning.empty()) text += wrap("note: " + report.warning, 80, "  ");
  return text;
}

}  // namespace cw::cli
