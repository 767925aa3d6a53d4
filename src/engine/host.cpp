#include "engine/host.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
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

// "python", "python3", "python3.12", "python3.13t": what is called otherwise may be anything.
bool is_python(const std::filesystem::path& program) {
  constexpr std::string_view prefix = "python";
  const std::string name = program.filename().string();
  if (!name.starts_with(prefix)) return false;
  std::string_view version = std::string_view(name).substr(prefix.size());
  if (version.ends_with('t') || version.ends_with('d')) version.remove_suffix(1);
  return version.find_first_not_of("0123456789.") == std::string_view::npos;
}

// Where a program is that is started by its name; empty: nowhere.
std::filesystem::path find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* const path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "");
  std::error_code error;
  for (std::string folder; std::getline(folders, folder, ':');)
    if (const auto program = std::filesystem::path(folder) / name;
        std::filesystem::is_regular_file(program, error))
      return program;
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

std::string python_of(const std::vector<std::string>& words_of_command) {
  if (words_of_command.empty()) return {};
  const std::filesystem::path program = find_program(words_of_command[0]);
  if (is_python(program)) return program.string();

  // A script: "#!/opt/venv/bin/python3" or "#!/usr/bin/env python3".
  constexpr std::size_t max_line = 4096;
  std::ifstream file(program, std::ios::binary);
  std::string line(max_line, 0);
  file.read(line.data(), max_line);
  line.resize(static_cast<std::size_t>(file.gcount()));
  if (!line.starts_with("#!")) return {};
  line.resize(std::min(line.find('\n'), line.size()));
  std::istringstream words(line.substr(2));
  std::string word;
  words >> word;
  const bool is_env = std::filesystem::path(word).filename() == "env";
  while (is_env && words >> word)
    if (!word.starts_with('-') && word.find('=') == std::string::npos) break;
  return is_python(word) ? word : std::string();
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
