#include <cstdio>

#include <fcntl.h>

#include "base/console.h"
#include "base/file.h"
#include "base/process.h"
#include "cli/commands.h"
#include "report/markdown.h"
#include "report/page.h"

namespace cw::cli {
namespace {

std::string name_of(const std::filesystem::path& folder) {
  std::error_code ignored;
  std::string name = std::filesystem::weakly_canonical(folder, ignored).filename().string();
  return name.empty() ? folder.string() : name;
}

// Devices and pipes are written to; what is a file is replaced whole.
Result<void> write_out(const std::filesystem::path& path, const std::string& text) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (std::filesystem::is_directory(status))
    return fail("is_directory", "{} is a folder; --out takes a file", path.string());
  if (!std::filesystem::exists(status) || std::filesystem::is_regular_file(status))
    return write_atomically(
        std::filesystem::is_symlink(path, error) ? std::filesystem::canonical(path, error) : path,
        text, Durability::process);
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return write_fully(file, text, path.string());
}

}  // namespace

int run_report(const ReportArguments& arguments, const CommonArguments& common) {
  ProgressLine progress(common.is_quiet);
  progress.update("reading " + arguments.trace_dir.string());
  const auto dataset = Dataset::open(arguments.trace_dir);
  if (!dataset) return report(dataset.error());
  if (const auto placed = dataset->check_places(); !placed) return report(placed.error());
  SummaryOptions options{.definition_names = arguments.definition_names};
  std::vector<DefinitionComparison> comparison;
  if (const auto named = choose_definitions(*dataset, arguments.definition_names, {}); !named)
    return report(named.error());
  if (!arguments.against.empty()) {
    if (const auto other = Dataset::open(arguments.against); !other) return report(other.error());
    auto compared = compare(*dataset, arguments.against);
    if (!compared) return report(compared.error());
    comparison = std::move(*compared);
    options.comparison = &comparison;
  }
  const auto summary = summarize(*dataset, options);
  if (!summary) return report(summary.error());
  std::string text;
  if (common.is_json)
    text = dump_indented(to_json(*summary)) + "\n";  // in a file; a terminal gets it otherwise
  else if (arguments.format == ReportFormat::markdown)
    text = to_markdown(*summary);
  else
    text = to_html(*summary, name_of(arguments.trace_dir));
  progress.clear();
  std::filesystem::path out = arguments.output;
  if (out.empty() && !common.is_json && arguments.format == ReportFormat::html) out = "report.html";
  if (out.empty() && common.is_json) {
    print_json(to_json(*summary));
  } else if (out.empty()) {
    print(stdout, text);
  } else {
    if (const auto written = write_out(out, text); !written) return report(written.error());
    if (!common.is_quiet)
      print(stderr, fmt::format("{}: {} workloads of {} definitions, {} KB\n", out.string(),
                                with_separators(summary->workloads()), summary->definitions.size(),
                                text.size() / 1000) +
                        describe_others({arguments.trace_dir}));
  }
  return summary->workloads() == 0 ? exit_no_workloads : exit_success;
}

}  // namespace cw::cli
