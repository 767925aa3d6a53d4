#include <algorithm>
#include <cstdio>

#include <fmt/ranges.h>

#include "base/console.h"
#include "cli/command.h"

namespace cw::cli {
namespace {

enum class Shell { bash, zsh, fish };

// The words that an option's value may be, when these are all that it may be.
std::vector<std::string> choices_of(const OptionView& option) {
  const bool is_choice =
      option.value.find('|') != std::string::npos &&
      option.value.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string::npos;
  std::vector<std::string> choices;
  for (std::size_t begin = 0; is_choice && begin <= option.value.size();) {
    const std::size_t end = std::min(option.value.find('|', begin), option.value.size());
    choices.push_back(option.value.substr(begin, end - begin));
    begin = end + 1;
  }
  return choices;
}

bool is_folder(const OptionView& option) {
  return option.value == "DIR";
}

bool is_path(const OptionView& option) {
  return is_folder(option) || option.value == "FILE" || option.value == "PATH";
}

std::string names_of(const std::vector<OptionView>& options) {
  std::vector<std::string> names;
  for (const OptionView& option : options)
    names.insert(names.end(), option.names.begin(), option.names.end());
  return fmt::format("{}", fmt::join(names, " "));
}

std::string names_of(const std::vector<CommandView>& commands) {
  std::vector<std::string> names;
  for (const CommandView& command : commands) names.push_back(command.name);
  return fmt::format("{}", fmt::join(names, " "));
}

std::string bash_script(const ProgramView& program) {
  std::string text =
      "# bash completion for collect-workloads\n"
      "_collect_workloads() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} "
      "command=${COMP_WORDS[1]} i\n"
      "  COMPREPLY=()\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n";
  text += fmt::format(
      "    mapfile -t COMPREPLY < <(compgen -W '{} {}' -- \"$word\")\n    return\n  fi\n",
      names_of(program.commands), names_of(program.program.options));

  // What comes after "--" is another command.
  text +=
      "  for ((i = 2; i < COMP_CWORD; ++i)); do\n"
      "    [ \"${COMP_WORDS[i]}\" = -- ] && { mapfile -t COMPREPLY < <(compgen -c -f -- "
      "\"$word\"); return; }\n"
      "  done\n"
      "  case $command in\n";
  for (const CommandView& command : program.commands) {
    const auto& options = command.options;
    text += fmt::format("    {})\n      case $previous in\n", command.name);
    for (const OptionView& option : options) {
      if (option.names.empty() || option.value.empty()) continue;
      const auto choices = choices_of(option);
      const std::string words = !choices.empty() ? fmt::format("-W '{}'", fmt::join(choices, " "))
                                : is_folder(option) ? "-d"
                                : is_path(option)   ? "-f"
                                                    : "-W ''";
      text +=
          fmt::format("        {}) mapfile -t COMPREPLY < <(compgen {} -- \"$word\"); return ;;\n",
                      fmt::join(option.names, "|"), words);
    }
    text +=
        fmt::format("      esac\n      mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\")\n",
                    names_of(options));
    const auto positional = std::ranges::find_if(
        options, [](const OptionView& option) { return option.names.empty(); });
    if (positional != options.end()) {
      const auto choices = choices_of(*positional);
      text += choices.empty()
                  ? "      [[ $word == -* ]] || mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
                  : fmt::format(
                        "      [[ $word == -* ]] || mapfile -t COMPREPLY < <(compgen -W '{}' -- "
                        "\"$word\")\n",
                        fmt::join(choices, " "));
    }
    text += "      ;;\n";
  }
  return text + "  esac\n}\ncomplete -o filenames -F _collect_workloads collect-workloads\n";
}

// Within single quotes, in what _arguments takes apart at brackets and colons.
std::string zsh(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\'')
      escaped += "'\\''";
    else if (c == '[' || c == ']' || c == ':' || c == '\\')
      escaped += std::string("\\") + c;
    else
      escaped += c;
  }
  return escaped;
}

std::string zsh_value(const OptionView& option) {
  if (option.value.empty()) return "";
  const auto choices = choices_of(option);
  const std::string action = !choices.empty()    ? fmt::format("({})", fmt::join(choices, " "))
                             : is_folder(option) ? "_files -/"
                             : is_path(option)   ? "_files"
                                                 : " ";
  return fmt::format(":{}:{}", zsh(option.value), action);
}

std::string zsh_script(const ProgramView& program) {
  std::string text =
      "#compdef collect-workloads\n"
      "_collect_workloads() {\n"
      "  local -a commands=(\n";
  for (const CommandView& command : program.commands)
    text += fmt::format("    '{}:{}'\n", command.name, zsh(command.description));
  text +=
      "  )\n"
      "  if (( CURRENT == 2 )); then\n"
      "    _describe command commands\n"
      "    return\n"
      "  fi\n"
      "  local command=$words[2]\n"
      "  shift words; (( CURRENT-- ))\n"
      "  case $command in\n";

  // One branch per command: its options, and its arguments without a name.
  for (const CommandView& command : program.commands) {
    text += fmt::format("    {}) _arguments", command.name);
    for (const OptionView& option : command.options) {
      if (option.names.empty()) {
        text += fmt::format(" \\\n      '*{}'",
                            option.value == "COMMAND" ? "::command:_normal" : zsh_value(option));
        continue;
      }
      for (const std::string& name : option.names)
        text +=
            fmt::format(" \\\n      '*{}[{}]{}'", name, zsh(option.description), zsh_value(option));
    }
    text += " ;;\n";
  }
  return text + "  esac\n}\n_collect_workloads \"$@\"\n";
}

std::string fish(std::string_view text) {
  std::string escaped;
  for (const char c : text)
    escaped += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return escaped;
}

std::string fish_script(const ProgramView& program) {
  std::string text = "# fish completion for collect-workloads\n";
  const std::string names = names_of(program.commands);
  for (const CommandView& command : program.commands)
    text += fmt::format(
        "complete -c collect-workloads -n 'not __fish_seen_subcommand_from {}' -f -a {} -d '{}'\n",
        names, command.name, fish(command.description));

  // The options of each command; path options complete files, choices their values.
  for (const CommandView& command : program.commands) {
    for (const OptionView& option : command.options) {
      if (option.names.empty()) continue;
      text += fmt::format("complete -c collect-workloads -n '__fish_seen_subcommand_from {}'",
                          command.name);
      for (const std::string& name : option.names)
        text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);

      const auto choices = choices_of(option);
      if (!choices.empty())
        text += fmt::format(" -x -a '{}'", fmt::join(choices, " "));
      else if (is_path(option))
        text += " -r -F";
      else if (!option.value.empty())
        text += " -x";
      text += fmt::format(" -d '{}'\n", fish(option.description));
    }
  }
  return text;
}

std::string script_for(const ProgramView& program, Shell shell) {
  switch (shell) {
    case Shell::bash:
      return bash_script(program);
    case Shell::zsh:
      return zsh_script(program);
    case Shell::fish:
      return fish_script(program);
  }
  return {};
}

// bash sources it or finds it in bash-completion/completions, zsh finds it as _collect-workloads on
// its fpath, fish in completions/.
class CompletionCommand final : public Command {
 public:
  std::string name() const override { return "completion"; }
  std::string description() const override { return "Print a shell completion script"; }
  bool has_common_options() const override { return false; }

  void declare(Options& options) override {
    options
        .choice<Shell>("shell", shell_,
                       {{"bash", Shell::bash}, {"zsh", Shell::zsh}, {"fish", Shell::fish}},
                       "Shell to complete in")
        .required();
    options.footer("For bash:  source <(collect-workloads completion bash)");
  }

  int run(const CommonArguments& common) override {
    print(stdout, script_for(*common.program, shell_));
    return exit_success;
  }

 private:
  Shell shell_ = Shell::bash;
};

}  // namespace

std::unique_ptr<Command> make_completion() {
  return std::make_unique<CompletionCommand>();
}

}  // namespace cw::cli
