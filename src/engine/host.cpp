#include "engine/host.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/process.h"

namespace cw {
namespace {

// The python of a conda environment; empty if there is no such environment.
std::string conda_python(const std::string& name) {
  // Where installers put conda.
  std::vector<std::filesystem::path> bases;
  if (const char* exe = std::getenv("CONDA_EXE"))
    bases.push_back(std::filesystem::path(exe).parent_path().parent_path());
  if (const char* home = std::getenv("HOME"))
    for (const char* folder : {"miniconda3", "anaconda3", "miniforge3", "mambaforge", ".conda"})
      bases.push_back(std::filesystem::path(home) / folder);
  for (const char* folder : {"/opt/conda", "/opt/miniconda3", "/opt/miniforge3"})
    bases.emplace_back(folder);

  std::error_code error;
  for (const auto& base : bases)
    if (const auto python = base / "envs" / name / "bin/python";
        std::filesystem::exists(python, error))
      return python.string();
  return {};
}

}  // namespace

Result<std::string> find_python(const EngineEnvironment& environment) {
  if (!environment.python.empty()) return environment.python.string();
  if (!environment.venv.empty()) {
    const std::filesystem::path python = environment.venv / "bin/python";
    std::error_code error;
    if (std::filesystem::exists(python, error)) return python.string();
    return fail("not_found", "--venv: there is no {}", python.string());
  }

  constexpr const char* usual_env = "flashinfer";
  const std::string& name = environment.conda_env;
  const std::string found = conda_python(name.empty() ? usual_env : name);
  if (!found.empty()) return found;
  if (!name.empty()) return fail("not_found", "no conda environment is called {}", name);
  return "python3";
}

Gpus find_gpus() {
  const auto output =
      run({{"nvidia-smi", "--query-gpu=compute_cap,memory.total", "--format=csv,noheader,nounits"}},
          std::chrono::seconds(20));
  Gpus gpus;
  int major = 0, minor = 0;
  double mebibytes = 0;
  // Machines with one memory for all say [N/A] for the GPU's.
  if (!output || std::sscanf(output->c_str(), "%d.%d, %lf", &major, &minor, &mebibytes) < 2)
    return gpus;
  gpus.compute_capability = major * 10 + minor;
  gpus.memory = mebibytes * (1 << 20);
  gpus.count = static_cast<int>(std::count(output->begin(), output->end(), '\n'));
  return gpus;
}

}  // namespace cw
