// What both ways of submitting share: whether the dataset may be submitted, and what of it.
#pragma once

#include "dataset/validation.h"
#include "submit/submit.h"

namespace cw {

class SubmissionPlan {
 public:
  /// Opens and validates the dataset, and makes all checks that need no network. Error codes:
  /// "not_valid", "simulated" and "unverified" (all of it is), "empty", "definition_unknown".
  static Result<SubmissionPlan> open(const SubmitOptions& options,
                                     const IndexChecksOf& index_checks);

  const Dataset& dataset() const { return dataset_; }

  /// What the dataset has that `mirror` lacks, with title and description; with `among`, only what
  /// that proposal has too. Error codes: "unverified", those of propose().
  Result<SubmitOutcome> propose(const std::filesystem::path& mirror, const FetchBlobs& fetch,
                                const std::string& base, const Proposal* among = nullptr) const;
  /// For a dry run that cannot reach the remote: as if nothing were there.
  Result<SubmitOutcome> without(const Error& why) const;

 private:
  explicit SubmissionPlan(const SubmitOptions& options) : options_(&options) {}
  Result<void> choose();
  Result<void> check_validity(const IndexChecksOf& index_checks);
  Result<void> check_origin() const;

  const SubmitOptions* options_;
  Dataset dataset_;
  ValidationReport report_;
};

/// One way to submit.
class Submitter {
 public:
  virtual ~Submitter() = default;
  virtual Result<SubmitOutcome> run() = 0;
  /// After an error: what was to be submitted, and what was left for the user.
  std::optional<SubmitOutcome> planned;
  std::filesystem::path kept;
};

/// `token`: null for a dry run without one.
std::unique_ptr<Submitter> hub_submitter(const SubmitOptions& options, const SubmissionPlan& plan,
                                         const Token* token);
std::unique_ptr<Submitter> git_submitter(const SubmitOptions& options, const SubmissionPlan& plan);

}  // namespace cw
