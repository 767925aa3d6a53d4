#include "submit/submit.h"

#include <algorithm>
#include <set>

#include "base/output.h"
#include "submit/plan.h"

namespace cw {
namespace {

constexpr std::size_t max_findings_shown = 5;

}  // namespace

Result<SubmissionPlan> SubmissionPlan::open(const SubmitOptions& options,
                                            const IndexChecksOf& index_checks) {
  SubmissionPlan plan(options);
  CW_TRY(plan.dataset_, Dataset::open(options.root));
  CW_CHECK(plan.dataset_.check_places());
  CW_CHECK(plan.choose());
  CW_CHECK(plan.check_validity(index_checks));
  CW_CHECK(plan.check_origin());
  return plan;
}

// What is true of only part of the dataset may not concern what is new.
Result<void> SubmissionPlan::check_origin() const {
  std::vector<std::string> names;
  for (const Definition& definition : dataset_.definitions) names.push_back(definition.name);
  CW_TRY(const Summary summary,
         summarize(dataset_,
                   {.definition_names = names, .comparison = nullptr, .has_lengths = false}));
  const Checks checks = checks_of(summary);
  const std::size_t all = summary.definitions.size();
  if (checks.simulated.size() == all && !options_->allows_simulated)
    return fail(
        "simulated",
        "{}: collection.json says that the simulated engine made all of it; no kernel was called "
        "with these workloads",
        options_->root.string());
  if (checks.unverified.size() == all && !options_->allows_unverified && !options_->is_dry_run)
    return fail("unverified", "{}: none of it is verified in its present state",
                options_->root.string());
  return {};
}

Result<void> SubmissionPlan::choose() {
  const bool is_all = options_->definition_names.empty() && options_->op_types.empty();
  CW_TRY(const auto chosen,
         choose_definitions(dataset_, options_->definition_names, options_->op_types));
  std::vector<Definition> wanted;
  for (const Definition* definition : chosen) wanted.push_back(*definition);
  dataset_.definitions = std::move(wanted);
  for (const Definition& definition : dataset_.definitions) {
    CW_TRY(const auto stored, read_stored_workloads(dataset_.root, definition));
    if (!stored.empty()) return {};
  }
  return fail("empty", "{}: contains no workloads{}", options_->root.string(),
              is_all ? "" : " for these definitions");
}

Result<void> SubmissionPlan::check_validity(const IndexChecksOf& index_checks) {
  options_->progress("validating");
  CW_TRY(report_, validate(options_->root, index_checks));
  if (report_.is_valid()) return {};
  std::string text = fmt::format("{} is not valid:", options_->root.string());
  std::size_t errors = 0;
  for (const Finding& finding : report_.findings)
    if (finding.severity == Finding::Severity::error && ++errors <= max_findings_shown)
      text += fmt::format("\n  {}: {}", finding.where, finding.message);
  if (errors > max_findings_shown)
    text += fmt::format("\n  and {} more", errors - max_findings_shown);
  return fail("not_valid", "{}", text);
}

Result<SubmitOutcome> SubmissionPlan::propose(const std::filesystem::path& mirror,
                                              const FetchBlobs& fetch, const std::string& base,
                                              const Proposal* among) const {
  options_->progress("comparing with " + base);
  SubmitOutcome outcome;
  outcome.base = base;
  auto proposed = cw::propose(dataset_, mirror, fetch, among);
  if (!proposed) {
    // Users need not know where the copy is, and validate does not help there.
    Error error = proposed.error();
    for (const std::string& part : {mirror.string() + "/", std::string("; run validate")})
      for (std::size_t at; (at = error.message.find(part)) != std::string::npos;) {
        error.message.replace(at, part.size(), part.ends_with('/') ? base + ": " : "");
        if (error.code == "workloads_invalid") error.code = "remote_invalid";
      }
    return tl::unexpected(std::move(error));
  }
  outcome.proposal = std::move(*proposed);
  if (outcome.proposal.added == 0) return outcome;

  SummaryOptions summarized{.definition_names = {}, .comparison = &outcome.proposal.definitions};
  for (const DefinitionComparison& compared : outcome.proposal.definitions)
    if (!compared.added.empty()) summarized.definition_names.push_back(compared.name);
  CW_TRY(const Summary summary, summarize(dataset_, summarized));
  Checks checks = checks_of(summary);
  checks.is_valid = report_.is_valid();
  checks.validated_workloads = report_.workloads;
  checks.validated_blobs = report_.blobs;
  checks.warnings = report_.findings.size();
  if (checks.is_simulated && !options_->allows_simulated)
    return fail("simulated",
                "{}: collection.json says that the simulated engine made workloads of {}; no "
                "kernel was called with these",
                options_->root.string(), fmt::join(checks.simulated, ", "));
  if (!checks.unverified.empty() && !options_->allows_unverified && !options_->is_dry_run)
    return fail("unverified", "{}: not verified as they are now: {}", options_->root.string(),
                fmt::join(checks.unverified, ", "));
  if (!checks.unverified.empty() && !options_->allows_unverified)
    outcome.would_be_refused = fmt::format("not verified: {}", fmt::join(checks.unverified, ", "));
  outcome.title = title_of(outcome.proposal, summary);
  outcome.description = description_of(outcome.proposal, summary, checks, base);
  return outcome;
}

Result<SubmitOutcome> SubmissionPlan::without(const Error& why) const {
  CW_TRY(const TemporaryDirectory nothing, TemporaryDirectory::create());
  CW_TRY(
      SubmitOutcome outcome,
      propose(
          nothing.path(), [](const std::vector<std::string>&) -> Result<void> { return {}; }, ""));
  outcome.not_compared = why.message;
  return outcome;
}

tl::expected<SubmitOutcome, SubmitFailure> submit(const SubmitOptions& options,
                                                  const IndexChecksOf& index_checks) {
  // Before anything that takes time: from here on neither a core dump nor another process can get
  // it.
  forbid_core_dumps();
  Result<Token> token = fail("no_token", "none is needed");
  if (options.remote.empty())
    token = find_token(options.note);
  else
    hide_token();  // git has its own credentials

  // Problems with the dataset are reported before a missing token.
  const auto plan = SubmissionPlan::open(options, index_checks);
  if (!plan) return tl::unexpected(SubmitFailure{plan.error()});
  if (options.remote.empty() && !token && !(options.is_dry_run && token.error().code == "no_token"))
    return tl::unexpected(SubmitFailure{token.error()});
  const auto submitter = options.remote.empty()
                             ? hub_submitter(options, *plan, token ? &*token : nullptr)
                             : git_submitter(options, *plan);
  auto outcome = submitter->run();
  if (!outcome)
    return tl::unexpected(
        SubmitFailure{outcome.error(), std::move(submitter->planned), submitter->kept});
  return std::move(*outcome);
}

}  // namespace cw
