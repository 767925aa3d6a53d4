#include <cstdio>

#include <fcntl.h>

#include "base/console.h"
#include "base/file.h"
#include "cli/command.h"
#include "cli/errors.h"
#include "cli/shared_options.h"
#include "cli/texts.h"
#include "report/markdown.h"
#include "report/page.h"

namespace cw::cli {
namespace {

enum class Format { html, markdown };

constexpr const char* usual_page = "report.html";

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
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    return write_fully(file, text, path.string());
  }
  const bool is_link = std::filesystem::is_symlink(path, error);
  return write_atomically(is_link ? std::filesystem::canonical(path, error) : path, text,
                          Durability::process);
}

class ReportCommand final : public Command {
 public:
  std::string name() const override { return "report"; }
  std::string description() const override {
    return "Report what a dataset holds, HTML or Markdown";
  }

  void declare(Options& options) override {
    add_dataset(options, trace_dir_);
    options
        .value("-o,--out", output_,
               "File to write (default: report.html; Markdown\nand JSON go to stdout)")
        .meta("FILE");
    options
        .choice<Format>("--format", format_, {{"html", Format::html}, {"md", Format::markdown}},
                        "HTML page that works offline, or Markdown")
        .shows("html");
    options.value("--against", against_, "Target dataset to compare with, to show what is\nnew")
        .meta("DIR");
    add_definitions(options, definition_names_, op_types_);
  }

  int run(const CommonArguments& common) override {
    ProgressLine progress(common.is_quiet);
    progress.update("reading " + trace_dir_.string());
    const auto summary = summarize_dataset();
    if (!summary) return print_error(summary.error());
    const std::string text = render(*summary, common.is_json);
    progress.clear();

    std::filesystem::path out = output_;
    if (out.empty() && !common.is_json && format_ == Format::html) out = usual_page;
    if (out.empty() && common.is_json)
      print_json(to_json(*summary));
    else if (out.empty())
      print(stdout, text);
    else if (const auto written = write_out(out, text); !written)
      return print_error(written.error());
    if (!out.empty() && !common.is_quiet)
      print(stderr, fmt::format("{}: {} workloads of {} definitions, {} KB\n", out.string(),
                                with_separators(summary->workloads()), summary->definitions.size(),
                                text.size() / 1000) +
                        describe_others({trace_dir_}));
    return summary->workloads() == 0 ? exit_no_workloads : exit_success;
  }

 private:
  Result<Summary> summarize_dataset() const {
    CW_TRY(const Dataset dataset, Dataset::open(trace_dir_));
    CW_CHECK(dataset.check_places());
    SummaryOptions options{.definition_names = definition_names_, .op_types = op_types_};
    std::vector<DefinitionComparison> comparison;
    if (!against_.empty()) {
      CW_CHECK(Dataset::open(against_));
      CW_TRY(comparison, compare(dataset, against_));
      options.comparison = &comparison;
    }
    return summarize(dataset, options);
  }

  std::string render(const Summary& summary, bool is_json) const {
    if (is_json) return dump_indented(to_json(summary)) + "\n";
    switch (format_) {
      case Format::markdown:
        return to_markdown(summary);
      case Format::html:
        return to_html(summary, name_of(trace_dir_));
    }
    return {};
  }

  std::filesystem::path trace_dir_;
  std::filesystem::path against_;  ///< the dataset it is meant for; empty: none
  std::filesystem::path output_;   ///< empty: report.html for a page, else stdout
  Format format_ = Format::html;
  std::vector<std::string> definition_names_, op_types_;
};

}  // namespace

std::unique_ptr<Command> make_report() {
  return std::make_unique<ReportCommand>();
}

}  // namespace cw::cli
