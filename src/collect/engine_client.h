// An engine's own client in place of ours, for comparison: SGLang's benchmark.serving, vLLM's
// `bench serve`.
#pragma once

#include <string>

#include "base/process.h"
#include "engine/recipes.h"
#include "traffic/request.h"

namespace cw {

struct ClientTarget {
  std::string python;  ///< the engine's
  std::string host;
  int port = 0;
  std::string model;  ///< empty: not known
};

/// The recipe's command with the same prompts and schedule as ours, as far as it has flags for
/// them. Error codes: "client_missing" (the Python has none of its modules), "interrupted".
Result<Command> client_command(const ClientRecipe& recipe, const ClientTarget& target,
                               const TrafficRequest& traffic);

}  // namespace cw
