// Turns a user's request into engine runs and what each has to capture. Nothing is started or
// written here.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bind/needs.h"
#include "capture/method.h"
#include "dataset/dataset.h"
#include "engine/host.h"
#include "engine/launch_command.h"
#include "engine/plan.h"

namespace cw {

/// Which engine, model and environment; empty members default to the recipes'.
struct EngineChoice {
  std::string engine = "sglang";
  std::string model_name;
  int tensor_parallel = 0;
  std::string engine_flags;    ///< as in a shell
  std::string launch_command;  ///< likewise; instead of a recipe's
  std::filesystem::path recipes, sglang_path;
  EngineEnvironment environment;
  bool updates_checkout = true;
};

struct CaptureRequest {
  std::filesystem::path trace_dir, bindings;
  std::vector<std::string> definition_names, op_types;
  bool takes_all = false;  ///< every definition that an engine here can reach
  EngineChoice engine;
  int port = 0;                           ///< 0: any free one
  std::string host = "127.0.0.1";         ///< where the engine listens
  const CaptureMethod* method = nullptr;  ///< null: the engine's usual one
  CaptureOptions capture;
};

struct CapturePlan {
  BindingSet bindings;
  Recipes recipes;
  Dataset dataset;
  std::vector<const Definition*> chosen;
  bool takes_all = false;  ///< every definition of the dataset was asked for
  EnginePlan engine;
  std::string python;                    ///< the engine's
  LaunchCommand launch;                  ///< empty words: a recipe's engine
  const EngineRecipe* recipe = nullptr;  ///< null: a launch command
  const CaptureMethod* method = nullptr;
  CaptureOptions capture;
  std::string host;
  std::vector<std::string> given_flags;  ///< for the engine, by the user
  Gpus gpus;                             ///< of this machine, if the engine uses any

  /// No real model runs: the results are never submitted.
  bool is_simulated() const { return recipe != nullptr && recipe->is_simulated; }
  CaptureNeeds needs_of(const EngineRun& run) const;
  /// What makes the engine of a run leave its calls in `folder`.
  Result<Variables> environment(const EngineRun& run, const std::filesystem::path& folder) const;
};

/// Error codes: "nothing_asked", "capture_unsupported", "port_unknown", and those of reading
/// bindings, recipes and the dataset, of choose_definitions(), find_python(),
/// parse_launch_command() and plan_runs().
Result<CapturePlan> plan_capture(const CaptureRequest& request);

}  // namespace cw
