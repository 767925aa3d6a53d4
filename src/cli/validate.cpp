#include <cstdio>

#include "base/console.h"
#include "cli/commands.h"
#include "dataset/validation.h"

namespace cw::cli {

int run_validate(const ValidateArguments& arguments, const CommonArguments& common) {
  const auto bindings = load_bindings(common);
  if (!bindings) return report(bindings.error());
  const auto validated = validate(arguments.trace_dir, bindings->index_checks());
  if (!validated) return report(validated.error());
  const auto severity = [](const Finding& finding) {
    return finding.severity == Finding::Severity::error ? "error" : "warning";
  };
  if (common.is_json) {
    Json findings = Json::array();
    for (const Finding& finding : validated->findings)
      findings.push_back({{"severity", severity(finding)},
                          {"code", finding.code},
                          {"where", finding.where},
                          {"message", finding.message}});
    const Json json = {{"valid", validated->is_valid()},
                       {"definitions", validated->definitions},
                       {"workloads", validated->workloads},
                       {"blobs", validated->blobs},
                       {"findings", std::move(findings)}};
    print_json(json);
    return validated->is_valid() ? exit_success : exit_failure;
  }
  for (const Finding& finding : validated->findings)
    print(stdout, fmt::format("{}: {}: {} [{}]\n", finding.where, severity(finding),
                              finding.message, finding.code));
  print(stdout,
        fmt::format("{}: {} definitions, {} workloads, {} blobs\n",
                    validated->is_valid() ? "valid" : "not valid",
                    with_separators(validated->definitions), with_separators(validated->workloads),
                    with_separators(validated->blobs)));
  return validated->is_valid() ? exit_success : exit_failure;
}

}  // namespace cw::cli
