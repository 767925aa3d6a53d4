#include "cli/collect_environment.h"

#include <algorithm>
#include <cctype>
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

std::vector<std::pair<std::string, std::string>> take_assignments(std::vector<std::string>& words) {
  const auto is_assignment = [](const std::string& word) {
    const std::size_t sign = word.find('=');
    const auto is_name = [](char c) {
      return c == '_' || std::isalnum(static_cast<unsigned char>(c)) != 0;
    };
    return sign != std::string::npos && sign > 0 &&
           std::isdigit(static_cast<unsigned char>(word[0])) == 0 &&
           std::all_of(word.begin(), word.begin() + static_cast<std::ptrdiff_t>(sign), is_name);
  };
  std::vector<std::pair<std::string, std::string>> assignments;
  const auto command = std::find_if_not(words.begin(), words.end(), is_assignment);
  for (auto word = words.begin(); word != command; ++word)
    assignments.emplace_back(word->substr(0, word->find('=')), word->substr(word->find('=') + 1));
  words.erase(words.begin(), command);
  return assignments;
}

void add_capture_variables(Command& command,
                           std::vector<std::pair<std::string, std::string>> variables) {
  for (auto& [name, value] : variables) {
    const auto given =
        std::find_if(command.environment.begin(), command.environment.end(),
                     [&name = name](const auto& variable) { return variable.first == name; });
    if (given == command.environment.end())
      command.environment.emplace_back(std::move(name), std::move(value));
    else if (name == "PYTHONPATH")  // the first of our folders is the recorder's
      given->second =
          value.substr(0, value.find(':')) + (given->second.empty() ? "" : ":") + given->second;
    else
      given->second = std::move(value);
  }
}

Result<LaunchCommand> parse_launch_command(const std::string& text) {
  LaunchCommand command{.words = shell_words(text)};
  command.environment = take_assignments(command.words);
  if (command.words.empty())
    return fail("launch_command_empty", "--launch-command: there is no command in '{}'", text);

  // In a word of its own, or in a script for a shell.
  const auto value_of = [&text](std::string_view flag) -> std::optional<std::string> {
    for (std::size_t place = text.find(flag); place != std::string::npos;
         place = text.find(flag, place + 1)) {
      std::size_t begin = place + flag.size();
      if (begin == text.size() || (text[begin] != '=' && text[begin] != ' ')) continue;
      begin = text.find_first_not_of(" =\"'", begin);
      if (begin == std::string::npos) continue;
      return text.substr(begin, text.find_first_of(" \t\n\"';&|", begin) - begin);
    }
    return {};
  };
  if (text.find("{host}") == std::string::npos) command.host = value_of("--host");
  if (text.find("{port}") != std::string::npos) return command;
  if (const auto port = value_of("--port")) {
    command.port = std::atoi(port->c_str());
    if (command.port < 1 || command.port > 65535)
      return fail(
          "port_unknown",
          "--launch-command: '{}' is no port; with {{port}} in its place a free one is taken",
          *port);
    return command;
  }
  // Without a flag: what the engines' documentation names as their default.
  if (text.find("sglang") != std::string::npos) command.port = 30000;
  if (text.find("vllm") != std::string::npos) command.port = 8000;
  if (command.port == 0)
    return fail("port_unknown",
                "--launch-command does not say where the engine listens; write {{port}} where its "
                "port belongs, or "
                "--port N as it takes it");
  return command;
}

Result<std::string> find_python(const EngineArguments& engine) {
  if (engine.engine == "simulated") return "python3";
  if (!engine.python.empty()) return engine.python.string();
  if (!engine.venv.empty()) {
    const std::filesystem::path python = engine.venv / "bin/python";
    std::error_code error;
    if (!std::filesystem::exists(python, error))
      return fail("not_found", "--venv: there is no {}", python.string());
    return python.string();
  }
  if (const std::string found =
          conda_python(engine.conda_env.empty() ? "flashinfer" : engine.conda_env);
      !found.empty())
    return found;
  if (!engine.conda_env.empty())
    return fail("not_found", "no conda environment is called {}", engine.conda_env);
  return "python3";
}

int compute_capability() {
  const auto output = run({{"nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"}},
                          std::chrono::seconds(20));
  int major = 0, minor = 0;
  if (!output || std::sscanf(output->c_str(), "%d.%d", &major, &minor) != 2) return 0;
  return major * 10 + minor;
}

}  // namespace cw::cli
