// Maps definitions to engine runs: which can be reached, with which model and flags, and what
// FlashInfer is told to dump. Nothing is started here.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/process.h"
#include "bind/binding.h"
#include "capture/method.h"
#include "engine/recipes.h"

namespace cw {

struct EnginePlanOptions {
  std::string engine = "sglang";
  std::string python = "python3";
  std::string self;         ///< this program, for the simulated engine
  std::string model_name;   ///< instead of the recipes'
  int tensor_parallel = 0;  ///< 0: the definitions' and recipes'
  /// All that `model_name` calls is asked for: spread in one way, which reaches most of it.
  bool takes_all = false;
  /// Added to every run's; they override the recipes' flags of the same name.
  std::vector<std::string> engine_flags;
  std::vector<std::string> launch_command;                              ///< instead of all that
  std::vector<std::pair<std::string, std::string>> launch_environment;  ///< of it
  const CaptureMethod* capture = capture_methods().front();
  int compute_capability = 0;  ///< of this machine's GPU, 90 for SM90; 0: unknown
  int gpus = 0;                ///< how many there are; 0: unknown
  double gpu_memory = 0;       ///< bytes of one; 0: unknown
};

struct EngineRun {
  std::string profile;  ///< of the recipe's, one or several: "paged_prefill+gdn"
  std::string model;    ///< its name in the recipes; empty for --model-name and --launch-command
  std::string model_path;
  int tensor_parallel = 1, expert_parallel = 1;
  std::optional<std::int64_t> page_size;  ///< nothing: its definitions have no pages
  std::vector<const Definition*> definitions;
  std::vector<const Binding*> bindings;  ///< unique
  Command command;                       ///< {port} and {host} not yet substituted
  std::vector<FlagChoice> flags;         ///< of the recipe, to be fitted to the installed version
  std::optional<double> weight_bytes;    ///< of the model, about; nothing: unknown
  std::optional<double> kv_bytes;        ///< that a GPU keeps for a token; nothing: unknown
  int compute_capability = 0;            ///< that some of the definitions need; 0: any
};

struct Unreachable {
  const Definition* definition;
  std::string why, reach;
  bool is_of_others = false;  ///< the user's model has other shapes
};

struct EnginePlan {
  std::vector<EngineRun> runs;
  std::vector<Unreachable> unreachable;
};

/// Error code "engine_unknown" (listing the known ones).
Result<EnginePlan> plan_runs(const std::vector<const Definition*>& definitions,
                             const BindingSet& bindings, const Recipes& recipes,
                             const EnginePlanOptions& options);

/// The flags that an installed engine knows, from what its --help prints.
std::set<std::string> flags_in_help(std::string_view help);

/// Takes the first known alternative of each choice (all are known if `known` is empty), skips what
/// `given` already sets, and reports what it replaced or dropped.
struct FittedFlags {
  std::vector<std::string> words, notes;
};
FittedFlags fit_flags(const std::vector<FlagChoice>& choices, const std::set<std::string>& known,
                      const std::vector<std::string>& given);

/// Replaces {name} in every word.
std::vector<std::string> fill_in(std::vector<std::string> words,
                                 const std::map<std::string, std::string>& values);

}  // namespace cw
