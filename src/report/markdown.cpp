#include "report/markdown.h"

#include <algorithm>
#include <set>

#include "base/console.h"
#include "base/process.h"

namespace cw {
namespace {

constexpr std::size_t max_defects = 12;
constexpr std::size_t max_value_length = 500;

std::string row(const std::vector<std::string>& cells) {
  return fmt::format("| {} |\n", fmt::join(cells, " | "));
}

std::string table(const std::vector<std::string>& head,
                  const std::vector<std::vector<std::string>>& rows) {
  std::string text = row(head) + row(std::vector<std::string>(head.size(), "---"));
  for (const auto& cells : rows) text += row(cells);
  return text + "\n";
}

std::string describe_traffic(const RunRecord& run) {
  if (!run.traffic.is_object() || run.traffic.empty()) return "not recorded";
  const auto traffic = TrafficRecord::from_json(run.traffic);
  return fmt::format("{} of {} requests, {} input and {} output tokens in {:.1f} s",
                     with_separators(static_cast<std::uint64_t>(traffic.completed)),
                     with_separators(static_cast<std::uint64_t>(traffic.sent)),
                     with_separators(static_cast<std::uint64_t>(traffic.input_tokens)),
                     with_separators(static_cast<std::uint64_t>(traffic.output_tokens)),
                     traffic.seconds);
}

std::string capture_details(const CaptureSummary& capture) {
  std::vector<std::vector<std::string>> rows;
  const auto add = [&rows](const char* what, const std::string& value) {
    if (!value.empty()) rows.push_back({what, escape_markdown(value)});
  };
  const SectionRecord& section = capture.section;
  if (const auto& run = section.run) {
    const auto cut = [](const std::string& text) { return text.substr(0, max_value_length); };
    add("Engine", cut(run->version));
    add("Model", cut(run->model));
    if (run->tensor_parallel > 0) add("Tensor parallelism", std::to_string(run->tensor_parallel));
    add("Flags", engine_command(capture));
    add("Prompts", cut(run->prompts));
    add("Traffic", describe_traffic(*run));
    add("Started", cut(run->started));
  }
  add("FlashInfer", fmt::format("{}", fmt::join(section.flashinfer_versions, ", ")));
  add("Capture", fmt::format("{}, {} calls", section.source, with_separators(section.calls)));
  if (section.is_simulated) add("Simulated", "yes: no model ran");
  return table({"", ""}, rows);
}

std::string axes_text(const DefinitionSummary& definition) {
  std::vector<std::string> axes;
  for (std::size_t i = 0; i < definition.var_axes.size(); ++i)
    axes.push_back(
        fmt::format("{} {}", escape_markdown(definition.var_axes[i]), axis_range(definition, i)));
  return fmt::format("{}", fmt::join(axes, ", "));
}

std::string definitions(const Summary& summary) {
  std::vector<std::string> head = {"definition", "op type", "workloads"};
  if (summary.is_compared) head.insert(head.end(), {"new", "there already"});
  head.emplace_back("var axes");
  std::vector<std::vector<std::string>> rows;
  for (const DefinitionSummary& definition : summary.definitions) {
    std::vector<std::string> cells = {"`" + escape_markdown(definition.name) + "`",
                                      escape_markdown(definition.op_type),
                                      with_separators(definition.workloads.size())};
    if (summary.is_compared) {
      cells.push_back(with_separators(definition.added));
      cells.push_back(definition.state == DefinitionState::missing
                          ? "definition is new"
                          : with_separators(definition.others));
    }
    cells.push_back(axes_text(definition));
    rows.push_back(std::move(cells));
  }
  return table(head, rows);
}

// Over all calls, for each axis: the most frequent extents and their shares.
std::string distributions(const Summary& summary) {
  constexpr std::size_t max_parts = 64, shown = 8;
  std::vector<std::vector<std::string>> rows;
  for (const DefinitionSummary& definition : summary.definitions) {
    const Distribution& distribution = definition.distribution;
    for (std::size_t i = 0; i < distribution.var_axes.size(); ++i) {
      auto parts = parts_of(distribution.of_axes[i], max_parts);

      const double all =
          static_cast<double>(std::max<std::uint64_t>(distribution.of_axes[i].calls(), 1));
      std::ranges::stable_sort(parts,
                               [](const auto& a, const auto& b) { return a.second > b.second; });

      // The most frequent parts, in percent.
      std::string text;
      for (std::size_t k = 0; k < std::min(parts.size(), shown); ++k)
        text += fmt::format("{}{}: {:.1f} %", k == 0 ? "" : ", ", parts[k].first,
                            100 * static_cast<double>(parts[k].second) / all);
      if (parts.size() > shown) text += fmt::format(", and {} more", parts.size() - shown);
      if (!parts.empty())
        rows.push_back({"`" + escape_markdown(definition.name) + "`",
                        escape_markdown(distribution.var_axes[i]), text});
    }
  }
  return rows.empty()
             ? ""
             : "Shares of all calls, by axis:\n\n" + table({"definition", "axis", "calls"}, rows);
}

std::string statistics(const Summary& summary) {
  std::vector<std::vector<std::string>> rows;
  for (const DefinitionSummary& definition : summary.definitions) {
    std::string max_length;
    for (const LengthHistogram& histogram : definition.lengths)
      max_length += fmt::format(
          "{}{} {}", max_length.empty() ? "" : ", ", escape_markdown(histogram.input),
          with_separators(
              static_cast<std::uint64_t>(std::max<std::int64_t>(histogram.max_length, 0))));

    std::string derived;
    for (const auto& [input, calls] : definition.derived_calls)
      derived += fmt::format("{}{} ({} calls)", derived.empty() ? "" : ", ", escape_markdown(input),
                             with_separators(calls));
    rows.push_back({"`" + escape_markdown(definition.name) + "`", with_separators(definition.calls),
                    with_separators(definition.distinct),
                    with_separators(definition.workloads.size()),
                    max_length.empty() ? "-" : max_length, derived.empty() ? "none" : derived});
  }

  std::string text =
      table({"definition", "calls", "distinct", "kept", "longest sequence", "derived scalars"},
            rows) +
      distributions(summary);

  // Why scalars had to be derived; each reason once.
  std::map<std::string, std::string> reasons;
  for (const DefinitionSummary& definition : summary.definitions)
    for (const auto& [input, because] : definition.derived_because)
      reasons[input + ": " + because] = "";
  for (const auto& [reason, unused] : reasons) text += "- " + escape_markdown(reason) + "\n";
  return reasons.empty() ? text : text + "\n";
}

std::string verification(const Summary& summary) {
  if (summary.environment.empty()) return "";

  std::size_t workloads = 0, loaded = 0, executed = 0;
  std::string unverified, failures;
  for (const DefinitionSummary& definition : summary.definitions) {
    workloads += definition.workloads.size();
    if (!definition.verification || !definition.verification->is_passed())
      unverified += (unverified.empty() ? "" : ", ") + escape_markdown(definition.name);
    if (!definition.verification) continue;
    loaded += definition.verification->loaded;
    executed += definition.verification->executed;
    for (const VerificationFailure& failure : definition.verification->failures)
      failures += fmt::format("- failed: {} {} ({}): {}\n", escape_markdown(definition.name),
                              escape_markdown(failure.workload), escape_markdown(failure.stage),
                              escape_markdown(failure.message));
  }

  std::string text = fmt::format(
      "## Verification\n\n{} of {} workloads loaded, {} run through their reference{}.\n",
      with_separators(loaded), with_separators(workloads), with_separators(executed),
      summary.devices().empty() ? "" : ", on " + escape_markdown(summary.devices()));
  if (!unverified.empty()) text += "\nNot verified as they are now: " + unverified + ".\n";
  return text + (failures.empty() ? "\n" : "\n" + failures + "\n");
}

std::string rejected(const Summary& summary) {
  std::map<std::pair<std::string, std::string>, DefectRecord> joined;
  for (const CaptureSummary& capture : summary.captures)
    for (const DefectRecord& defect : capture.section.defects) {
      DefectRecord& all = joined[{defect.name, defect.function}];
      const std::uint64_t sum = all.count + defect.count;
      if (all.count < defect.count) all = defect;
      all.count = sum;
    }

  // The most frequent first.
  std::vector<const DefectRecord*> sorted;
  for (const auto& [key, defect] : joined) sorted.push_back(&defect);
  std::ranges::stable_sort(sorted,
                           [](const auto* a, const auto* b) { return a->count > b->count; });

  std::vector<std::vector<std::string>> rows;
  for (const DefectRecord* defect : sorted)
    if (rows.size() < max_defects)
      rows.push_back({escape_markdown(defect->name), escape_markdown(defect->function),
                      with_separators(defect->count), escape_markdown(defect->detail),
                      escape_markdown(defect->example)});
  std::string text = rows.empty()
                         ? ""
                         : "## Rejected calls\n\n" +
                               table({"reason", "function", "calls", "detail", "example"}, rows);
  if (sorted.size() > rows.size())
    text += fmt::format("and {} more kinds.\n\n", sorted.size() - rows.size());
  return text;
}

}  // namespace

std::string escape_markdown(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '<')
      result += "&lt;";
    else if (c == '&')
      result += "&amp;";
    else if (static_cast<unsigned char>(c) < 0x20)
      result += ' ';
    else if (std::string_view("\\`*[]|~").find(c) != std::string_view::npos)
      result += std::string("\\") + c;
    else
      result += c;
  }
  return result;
}

std::string axis_range(const DefinitionSummary& definition, std::size_t axis) {
  std::int64_t min = definition.workloads.empty() ? 0 : definition.workloads[0].axes[axis],
               max = min;
  for (const WorkloadSummary& workload : definition.workloads) {
    min = std::min(min, workload.axes[axis]);
    max = std::max(max, workload.axes[axis]);
  }
  return min == max ? std::to_string(min) : fmt::format("{} to {}", min, max);
}

std::string engine_command(const CaptureSummary& capture) {
  if (!capture.section.run) return "";
  Command command;
  std::string previous;
  for (const std::string& word : capture.section.run->command) {
    // The engine's address concerns only that run.
    const bool is_address =
        previous == "--host" || previous == "--port" || word == "--host" || word == "--port";
    previous = word;
    if (!is_address) command.arguments.push_back(word);
  }
  return to_shell(command);
}

std::string describe_capture(const CaptureSummary& capture) {
  const SectionRecord& section = capture.section;
  std::vector<std::string> parts;
  if (const auto& run = section.run) {
    const bool is_path = run->model.starts_with('/');
    const std::string model =
        is_path ? std::filesystem::path(run->model).filename().string() : run->model;
    for (const std::string& part : {model, run->version})
      if (!part.empty()) parts.push_back(part.substr(0, max_value_length));
    if (run->tensor_parallel > 1) parts.push_back(fmt::format("TP {}", run->tensor_parallel));
  } else {
    for (const std::string& version : section.flashinfer_versions)
      parts.push_back("FlashInfer " + version);
  }
  if (section.is_simulated) parts.emplace_back("simulated");
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string to_markdown(const Summary& summary) {
  std::string text = "## Collection details\n\n";
  if (summary.captures.empty())
    text += "There is no collection.json: where these workloads come from is not recorded.\n\n";
  for (const CaptureSummary& capture : summary.captures) text += capture_details(capture);
  text += "## Definitions\n\n" + definitions(summary);
  text += "## Statistics\n\n" + statistics(summary) + verification(summary);
  return text + rejected(summary);
}

}  // namespace cw
