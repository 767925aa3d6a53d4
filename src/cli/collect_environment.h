// What of the machine a collection has to know: its Python, its GPU, and its shell's quotes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.h"

namespace cw::cli {

/// Words of a command line, with the shell's quotes and backslashes.
std::vector<std::string> shell_words(std::string_view text);

/// The engine's Python: --python, --venv, --conda-env, a conda environment called flashinfer, or else python3.
/// Error code "not_found".
Result<std::string> find_python(const EngineArguments& engine);

/// 90 for an H100 or H200; 0 where nvidia-smi does not say.
int compute_capability();

}  // namespace cw::cli
