#include <cstdio>

#include "base/console.h"
#include "base/file.h"
#include "base/process.h"
#include "cli/commands.h"
#include "report/markdown.h"
#include "report/page.h"

namespace cw::cli {

int run_report(const ReportArguments& arguments, const CommonArguments& common) {
  ProgressLine progress(common.is_quiet);
  progress.update("reading " + arguments.trace_dir.string());
  const auto dataset = Dataset::open(arguments.trace_dir);
  if (!dataset) return report(dataset.error());
  SummaryOptions options{.definition_names = arguments.definition_names};
  std::vector<DefinitionComparison> comparison;
  if (!arguments.against.empty()) {
    auto compared = compare(*dataset, arguments.against);
    if (!compared) return report(compared.error());
    comparison = std::move(*compared);
    options.comparison = &comparison;
  }
  const auto summary = summarize(*dataset, options);
  if (!summary) return report(summary.error());
  std::string text;
  if (common.is_json)
    text = dump_indented(to_json(*summary)) + "\n";
  else if (arguments.format == ReportFormat::markdown)
    text = to_markdown(*summary);
  else
    text = to_html(*summary, std::filesystem::absolute(arguments.trace_dir).lexically_normal().filename().string());
  progress.clear();
  std::filesystem::path out = arguments.output;
  if (out.empty() && !common.is_json && arguments.format == ReportFormat::html) out = "report.html";
  if (out.empty()) {
    std::fputs(text.c_str(), stdout);
  } else {
    if (const auto written = write_atomically(out, text, Durability::process); !written) return report(written.error());
    if (!common.is_quiet)
      std::fprintf(stderr, "%s: %s workloads of %zu definitions, %zu KB\n", out.c_str(), with_separators(summary->workloads()).c_str(),
                   summary->definitions.size(), text.size() / 1000);
  }
  return summary->workloads() == 0 ? exit_no_workloads : exit_success;
}

}  // namespace cw::cli
