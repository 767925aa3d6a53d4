// Whether workloads run: flashinfer-bench's loader makes their inputs, their definition's reference
// computes on them, and recorded calls give the recorded outputs again. All of it in the user's
// Python, from data/verify.py.
#pragma once

#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "dataset/verification_file.h"

namespace cw {

struct VerifyOptions {
  std::filesystem::path root;
  std::vector<std::string> definition_names, op_types;  ///< only these; empty: all
  std::string python = "python3";                       ///< has flashinfer-bench
  bool runs_reference = true;
  std::string device = "auto";  ///< as torch names them; auto: the GPU when there is one
  int limit_seconds = 600;      ///< for one workload
  std::vector<std::filesystem::path> dumps;  ///< folders for `flashinfer replay`
  std::string engine_python;                 ///< has flashinfer; empty: `python`
  std::filesystem::path log;                 ///< what Python printed; appended to
  std::function<void(std::size_t done, std::size_t all, const std::string& definition)> progress =
      [](auto, auto, const auto&) {};
};

struct VerifyOutcome {
  Verification file;                  ///< verification.json as it is now
  std::set<std::string> definitions;  ///< those that were verified by this run
};

/// Verifies and writes verification.json; definitions that were not asked for stay in it as they
/// are. A workload that takes the process down with it fails by itself: the next one is begun in
/// another process. Error codes: "not_found", "no_workloads", "python_failed" (no flashinfer-bench,
/// or it cannot load the dataset), "replay_failed", "interrupted", and those of reading and
/// writing.
Result<VerifyOutcome> verify(const VerifyOptions& options);

/// What `flashinfer replay` printed of a session (flashinfer/__main__.py, replay_cmd). It always
/// compares (no version has an option for it), and calls a call passed that has no outputs:
/// `has_outputs` is asked by the dump's name. Methods of wrappers whose constructor is not among
/// the dumps cannot be run again and count as skipped. `undecided` is asked of each other that
/// failed why that says nothing of the call; empty: it does. Error code "replay_failed".
Result<ReplayVerification> parse_replay(
    std::string_view output, const std::function<bool(const std::string&)>& has_outputs,
    const std::function<std::string(const std::string&)>& undecided);

}  // namespace cw
