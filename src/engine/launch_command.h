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
  std::optional<std::string> host;                               ///< if it names one itself
  int port = 0;  ///< likewise, or its engine's default; 0: it contains {port}
};

/// Parses a launch command and determines where it listens: from its --port, or else the default
/// port of the recipe whose name occurs in it. Error codes: "launch_command_empty", "port_unknown".
Result<LaunchCommand> parse_launch_command(const std::string& text, const Recipes& recipes);

}  // namespace cw
