// A whole collection: engine runs are planned and prepared, each gets its traffic, and the captured
// calls become workloads of a dataset. It can be interrupted or killed at any time and resumed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "collect/capture_plan.h"
#include "collect/engine_run.h"
#include "traffic/request.h"

namespace cw {

struct CollectRequest {
  CaptureRequest capture;
  TrafficRequest traffic;
  SanitizeOptions sanitize;  ///< how workloads are chosen and stored
  std::filesystem::path work_dir, dump_dir;
  bool uses_engine_client = false;
  bool resumes = false;            ///< resumes the collection in work_dir
  std::vector<std::string> words;  ///< the command line, saved for --resume
  std::uint64_t disk_budget = 10'000'000'000;
  bool keeps_dumps = false;
  bool until_saturated = true;
  bool is_dry_run = false;
  bool may_ask = false;                      ///< interactive: may prompt the user
  int start_limit = 1800, hang_limit = 180;  ///< seconds
};

struct CollectOutcome {
  std::vector<Json> sections;      ///< of collection.json, one per completed or partial run
  std::size_t kept = 0;            ///< workloads in these
  bool was_complete = false;       ///< there was nothing to resume
  bool has_complete_runs = false;  ///< some were already complete at the start
  bool is_interrupted = false;
  /// A run ended early, or a dry run found what would stop it.
  std::optional<Error> failure;
  std::string resume;  ///< the command that resumes it
};

/// A collection that could not be made. Error codes: those of plan_capture(), "unreachable" (no run
/// gives anything requested), "sweep_unsupported", "engine_missing", "dataset_unwritten",
/// those of WorkDir, of prompts, of prepare_checkout() and of run_engine().
struct CollectFailure {
  Error error;
  std::string resume;  ///< the command that resumes it; empty: nothing was started
};

tl::expected<CollectOutcome, CollectFailure> collect(const CollectRequest& request,
                                                     CollectObserver& observer);

}  // namespace cw
