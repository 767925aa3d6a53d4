// Any engine's command line, as a user types it for --launch-command.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/recipes.h"

namespace cw {

struct LaunchCommand {
  std::vector<std::string> words;                                ///< empty: none is given
  std::vector<std::pair<std::string, std::string>> environment;  ///< NAME=value in front of it
  std::optional<std::string> host;                               ///< that it names itself
  int port = 0;  ///< likewise, or its engine's usual one; 0: it has {port} in it
};

/// Takes a launch command apart, and finds where it listens: by its --port, or else by the usual
/// port of the recipe whose name occurs in it. Error codes: "launch_command_empty", "port_unknown".
Result<LaunchCommand> parse_launch_command(const std::string& text, const Recipes& recipes);

}  // namespace cw
