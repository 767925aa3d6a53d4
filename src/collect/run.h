// One engine run of a collection: the engine is started with capture on, gets its traffic, its
// dumps become workloads while it serves, and it is ended, whatever happens.
//
// A recording is small, and bounded by the recorder. Level-10 dumps are bounded by three means:
// they are deleted as soon as they are bound; past half of the budget new requests wait and the
// engine is frozen (SIGSTOP) until the dumps are dealt with; and when that does not help the run
// ends with what it has.
//
// What was found is checkpointed every few seconds, so that a run that was interrupted or killed
// can be resumed.
#pragma once

#include <functional>
#include <string>

#include "engine/engine.h"
#include "sanitize/watch.h"
#include "traffic/traffic.h"

namespace cw {

struct CollectRunOptions {
  EngineOptions engine;
  TrafficOptions traffic;            ///< its model and endpoint are found once the engine is ready
  std::optional<Endpoint> endpoint;  ///< unless this is given
  SanitizeOptions sanitize;
  std::function<Result<std::unique_ptr<PromptSource>>()> prompts;
  /// Instead of our client: a command that drives the engine at {url}.
  std::optional<Command> traffic_command;
  std::function<void()> engine_ended = [] {
  };  ///< once its processes have ended, before the rest is read
  CaptureKind capture = CaptureKind::recording;
  std::filesystem::path dumps;       ///< the folder of the capture, of either kind
  std::filesystem::path checkpoint;  ///< a folder; see Checkpoint
  bool resumes = false;              ///< goes on from there
  bool keeps_dumps = false;
  std::uint64_t disk_budget = 10'000'000'000;
  bool until_saturated = true;
  std::uint64_t saturated_after = 10'000;  ///< calls of a definition without anything new
  std::chrono::seconds hang_limit{180};  ///< without a token or a call while requests are under way
};

/// What a user wants to see of a run while it goes on.
struct CollectProgress {
  std::size_t requests = 0, done = 0, failed = 0, under_way = 0;
  std::uint64_t output_tokens = 0, calls = 0;
  double tokens_per_second = 0;
  std::uint64_t disk = 0;
  bool is_frozen = false;
  std::vector<Progress> definitions;
};

struct CollectObserver {
  std::function<void(const std::string&)> loading = [](const std::string&) {
  };                                                  ///< the engine's last log line
  std::function<void(double)> ready = [](double) {};  ///< after so many seconds
  std::function<void(const CollectProgress&)> running = [](const CollectProgress&) {};
  std::function<void(const std::string&)> note = [](const std::string&) {};
};

/// What a checkpoint says of the run that wrote it.
struct CollectPosition {
  std::size_t requests = 0;  ///< of the schedules, completed
  /// That were under way when one of the runs ended, and were sent again.
  std::size_t sent_twice = 0;
  bool is_collected = false;  ///< nothing is left but to write the dataset
  bool is_published = false;  ///< the dataset has what was found

  Json to_json() const;
  /// Of a checkpoint's folder; nothing when there is none.
  static std::optional<CollectPosition> read(const std::filesystem::path& checkpoint);
};

struct CollectRunOutcome {
  SanitizeOutcome sanitized;
  TrafficReport traffic;
  std::uint64_t peak_disk = 0;
  std::size_t freezes = 0;
  CollectPosition position;
  double ready_seconds = 0;
  bool is_saturated = false;
  bool is_interrupted = false;
  Json server_info;
  std::optional<Error> failure;  ///< the run ended early; what it had is kept
  Json section;                  ///< of collection.json
};

/// Error codes: those of starting the engine, of the prompts, of the checkpoint and of writing the
/// dataset. What happens once traffic flows is no error but CollectRunOutcome::failure.
Result<CollectRunOutcome> collect_run(const CollectRunOptions& options, const Dataset& dataset,
                                      const BindingSet& bindings, const CollectObserver& observer);

}  // namespace cw
