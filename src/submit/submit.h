// Submits a dataset's new workloads to another one, as a pull request on the Hub or a branch on any
// git remote.
//
// Both are atomic and may be repeated: what is there already is found by content, and a pull
// request or branch with the same workloads by the fingerprint in its title.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "dataset/dataset.h"
#include "definition/index_checks.h"
#include "submit/proposal.h"
#include "submit/token.h"

namespace cw {

struct SubmitOptions {
  std::filesystem::path root;
  std::vector<std::string> definition_names, op_types;  ///< only these; empty: all
  std::string repo = "flashinfer-ai/flashinfer-trace";
  std::string endpoint = "https://huggingface.co";
  std::string remote;                           ///< a git URL: push there instead of the Hub
  std::optional<std::uint64_t> pull_request{};  ///< adds to this one
  bool allows_unverified = false;
  bool allows_simulated = false;  ///< for tests
  bool is_dry_run = false;
  std::function<void(const std::string&)> progress = [](const std::string&) {};
  std::function<void(const std::string&)> note = [](const std::string&) {};
};

struct SubmitOutcome {
  Proposal proposal;
  std::string title, description;
  std::string base;            ///< what it was compared with, in words
  std::string not_compared{};  ///< dry run: why not; then everything counts as new
  std::string commit;          ///< empty: nothing was committed
  std::string url;             ///< of the pull request; empty for a git remote
  std::optional<std::uint64_t> pull_request;
  std::string branch;              ///< of a git remote
  bool was_there = false;          ///< an earlier run did it
  std::string would_be_refused{};  ///< dry run: why
  std::uint64_t bytes_sent = 0;
};

/// What failed, and what was to be submitted, if known by then.
struct SubmitFailure {
  Error error;
  std::optional<SubmitOutcome> planned{};
  std::filesystem::path kept{};  ///< a clone with the commit in it
};

/// Whether a branch name has the form that submit uses: workloads-YYYYMMDD-OP, optionally followed
/// by -N.
bool is_submission_branch(std::string_view name);

/// A git URL without any user, password and query.
std::string printable_remote(const std::string& remote);

/// Error codes: "not_valid", "simulated", "unverified", "empty", "definition_unknown", "conflict",
/// "no_token", "hub_lied" (the server has other bytes than were sent), "git_missing",
/// "git_failed", those of Hub and of reading.
tl::expected<SubmitOutcome, SubmitFailure> submit(const SubmitOptions& options,
                                                  const IndexChecksOf& index_checks);

}  // namespace cw
