// What of the machine a collection has to know: its Python, its GPU, and its shell's quotes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.h"

namespace cw::cli {

/// Words of a command line, with the shell's quotes and backslashes.
std::vector<std::string> shell_words(std::string_view text);

/// Takes the assignments in front off: NAME=value … command.
std::vector<std::pair<std::string, std::string>> take_assignments(std::vector<std::string>& words);

/// What brings a capture into a command. A PYTHONPATH that the command gives itself stays behind
/// the recorder's folder, the first of the variables' own.
void add_capture_variables(Command& command,
                           std::vector<std::pair<std::string, std::string>> variables);

/// Takes a launch command apart, and finds where it listens. Error codes: "launch_command_empty",
/// "port_unknown".
Result<LaunchCommand> parse_launch_command(const std::string& text);

/// The engine's Python: --python, --venv, --conda-env, a conda environment called flashinfer, or
/// else python3. Error code "not_found".
Result<std::string> find_python(const EngineArguments& engine);

/// 90 for an H100 or H200; 0 where nvidia-smi does not say.
int compute_capability();

}  // namespace cw::cli
