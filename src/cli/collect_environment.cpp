#include "cli/collect_environment.h"

#include <cstdio>
#include <cstdlib>

namespace cw::cli {
namespace {

// A conda environment's python; empty when there is no such environment.
std::string conda_python(const std::string& name) {
  std::vector<std::filesystem::path> bases;
  if (const char* exe = std::getenv("CONDA_EXE"))
    bases.push_back(std::filesystem::path(exe).parent_path().parent_path());
  if (const char* home = std::getenv("HOME"))
    for (const char* folder : {"miniconda3", "anaconda3", "miniforge3", "mambaforge", ".conda"})
      bases.push_back(std::filesystem::path(home) / folder);
  for (const char* folder : {"/opt/conda", "/opt/miniconda3", "/opt/miniforge3"}) bases.emplace_back(folder);
  std::error_code error;
  for (const auto& base : bases)
    if (const auto python = base / "envs" / name / "bin/python"; std::filesystem::exists(python, error))
      return python.string();
  return {};
}

}  // namespace

std::vector<std::string> shell_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  bool has_word = false;
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0) {
      if (c == quote)
        quote = 0;
      else if (c == '\\' && quote == '"' && i + 1 < text.size())
        word += text[++i];
      else
        word += c;
    } else if (c == '\'' || c == '"') {
      quote = c;
      has_word = true;
    } else if (c == '\\' && i + 1 < text.size()) {
      word += text[++i];
      has_word = true;
    } else if (c == ' ' || c == '\t' || c == '\n') {
      if (has_word) words.push_back(std::exchange(word, {}));
      has_word = false;
    } else {
      word += c;
      has_word = true;
    }
  }
  if (has_word) words.push_back(word);
  return words;
}

Result<std::string> find_python(const EngineArguments& engine) {
  if (engine.engine == "simulated") return "python3";
  if (!engine.python.empty()) return engine.python.string();
  if (!engine.venv.empty()) {
    const std::filesystem::path python = engine.venv / "bin/python";
    std::error_code error;
    if (!std::filesystem::exists(python, error)) return fail("not_found", "--venv: there is no {}", python.string());
    return python.string();
  }
  if (const std::string found = conda_python(engine.conda_env.empty() ? "flashinfer" : engine.conda_env); !found.empty())
    return found;
  if (!engine.conda_env.empty()) return fail("not_found", "no conda environment is called {}", engine.conda_env);
  return "python3";
}

int compute_capability() {
  const auto output = run({{"nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"}}, std::chrono::seconds(20));
  int major = 0, minor = 0;
  if (!output || std::sscanf(output->c_str(), "%d.%d", &major, &minor) != 2) return 0;
  return major * 10 + minor;
}

}  // namespace cw::cli
