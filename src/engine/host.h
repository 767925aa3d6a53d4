// What an engine run needs to know about this machine: which Python has the engine, and which GPU
// there is.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace cw {

/// Where the user says the engine is installed; any may be empty.
struct EngineEnvironment {
  std::filesystem::path python, venv;
  std::string conda_env;
};

/// The engine's Python: as given (a Python, a virtual environment, a conda environment), else that
/// of a conda environment called flashinfer, else python3. Error code "not_found".
Result<std::string> find_python(const EngineEnvironment& environment);

/// The Python that a command runs in, going by its first word: a Python itself, or a script on PATH
/// whose first line names one. Empty: not known.
std::string python_of(const std::vector<std::string>& words_of_command);

/// The machine's GPUs, as nvidia-smi reports them; zeros if it does not. Those of the first one: a
/// machine has GPUs of one kind.
struct Gpus {
  int count = 0;
  int compute_capability = 0;  ///< 90 for an H100 or H200
  double memory = 0;           ///< bytes of one
};
Gpus find_gpus();

}  // namespace cw
