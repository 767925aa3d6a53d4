#include <cstdio>

#include "base/console.h"
#include "bind/binding.h"
#include "cli/command.h"
#include "cli/errors.h"
#include "cli/shared_options.h"
#include "dataset/validation.h"

namespace cw::cli {
namespace {

const char* name_of(Finding::Severity severity) {
  switch (severity) {
    case Finding::Severity::error:
      return "error";
    case Finding::Severity::warning:
      return "warning";
  }
  return "";
}

Json to_json(const ValidationReport& report) {
  Json findings = Json::array();
  for (const Finding& finding : report.findings)
    findings.push_back({{"severity", name_of(finding.severity)},
                        {"code", finding.code},
                        {"where", finding.where},
                        {"message", finding.message}});
  return {{"valid", report.is_valid()},
          {"definitions", report.definitions},
          {"workloads", report.workloads},
          {"blobs", report.blobs},
          {"findings", std::move(findings)}};
}

class ValidateCommand final : public Command {
 public:
  std::string name() const override { return "validate"; }
  std::string description() const override {
    return "Check a dataset: definitions, workloads, blobs";
  }

  void declare(Options& options) override { add_dataset(options, trace_dir_); }

  int run(const CommonArguments& common) override {
    const auto bindings = BindingSet::load(common.bindings);
    if (!bindings) return print_error(bindings.error());
    const auto report = validate(trace_dir_, bindings->index_checks());
    if (!report) return print_error(report.error());

    const int status = report->is_valid() ? exit_success : exit_failure;
    if (common.is_json) {
      print_json(to_json(*report));
      return status;
    }
    for (const Finding& finding : report->findings)
      print(stdout, fmt::format("{}: {}: {} [{}]\n", finding.where, name_of(finding.severity),
                                finding.message, finding.code));
    print(stdout, fmt::format("{}: {} definitions, {} workloads, {} blobs\n",
                              report->is_valid() ? "valid" : "not valid",
                              with_separators(report->definitions),
                              with_separators(report->workloads), with_separators(report->blobs)));
    return status;
  }

 private:
  std::filesystem::path trace_dir_;
};

}  // namespace

std::unique_ptr<Command> make_validate() {
  return std::make_unique<ValidateCommand>();
}

}  // namespace cw::cli
