// What an engine run has to know of this machine: which Python has the engine, and what GPU there
// is.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"

namespace cw {

/// Where users say that the engine is installed; all may be empty.
struct EngineEnvironment {
  std::filesystem::path python, venv;
  std::string conda_env;
};

/// The engine's Python: as given (a Python, a virtual environment, a conda environment), else that
/// of a conda environment called flashinfer, else python3. Error code "not_found".
Result<std::string> find_python(const EngineEnvironment& environment);

/// 90 for an H100 or H200; 0 where nvidia-smi does not say.
int compute_capability();

}  // namespace cw
