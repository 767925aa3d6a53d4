// One engine run of a collection: the engine is started with capture on and gets its traffic, its
// calls become workloads while it serves, and it is stopped, whatever happens.
//
// What was found is checkpointed every few seconds, so that an interrupted or killed run can be
// resumed.
#pragma once

#include <functional>
#include <optional>

#include "collect/observer.h"
#include "collect/work_dir.h"
#include "dataset/collection_records.h"
#include "engine/engine.h"
#include "sanitize/watch.h"
#include "traffic/traffic.h"

namespace cw {

struct EngineRunOptions {
  RunView view;  ///< for the observer
  EngineOptions engine;
  TrafficOptions traffic;            ///< model and endpoint are determined once the engine is ready
  std::optional<Endpoint> endpoint;  ///< unless this is given
  SanitizeOptions sanitize;          ///< with the run's record, as far as it is known beforehand
  std::function<Result<std::unique_ptr<PromptSource>>()> prompts;
  /// Instead of our client: a command that drives the engine.
  std::optional<Command> traffic_command;
  std::string information;                     ///< route of the server's information; empty: none
  std::function<void()> engine_ended = [] {};  ///< its processes have exited; the rest will be read
  const CaptureMethod* method = nullptr;
  std::filesystem::path checkpoint;  ///< a folder; see Checkpoint
  bool resumes = false;              ///< resumes from there
  bool until_saturated = true;
  std::uint64_t saturated_after = 10'000;  ///< calls of a definition with nothing new
  std::chrono::seconds hang_limit{180};  ///< without a token or a call while requests are in flight
};

struct EngineRunOutcome {
  SanitizeOutcome sanitized;
  TrafficReport traffic;
  std::uint64_t peak_disk = 0;
  std::size_t times_frozen = 0;
  RunPosition position;
  double ready_seconds = 0;
  bool is_saturated = false;
  bool is_interrupted = false;
  Json server_information;
  std::optional<Error> failure;  ///< it ended early; what it had is kept
  std::string why_nothing;       ///< no process was captured: why; else empty
  Json section;                  ///< of collection.json
};

/// Error codes: those of starting the engine, of the prompts, of the checkpoint and of writing the
/// dataset. Once traffic flows, failures are reported in EngineRunOutcome::failure instead.
Result<EngineRunOutcome> run_engine(const EngineRunOptions& options, const Dataset& dataset,
                                    const BindingSet& bindings, CollectObserver& observer);

}  // namespace cw
