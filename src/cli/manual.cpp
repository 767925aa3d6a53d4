#include "cli/manual.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace cw::cli {
namespace {

// What of an option a page or a shell shows.
struct OptionView {
  std::vector<std::string> names;  ///< with their dashes; none of a positional
  std::string value;               ///< "DIR", "all|diverse"; empty of a flag
  std::string description, initial;
  bool takes_several = false;
};

std::string in_one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::vector<OptionView> options_of(const CLI::App& command) {
  std::vector<OptionView> views;
  for (const CLI::Option* option : command.get_options()) {
    OptionView view{.names = {},
                    .value = option->get_type_name(),
                    .description = in_one_line(option->get_description()),
                    .initial = option->get_default_str()};
    for (const std::string& name : option->get_snames()) view.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) view.names.push_back("--" + name);
    if (view.names.empty() && view.value.empty()) view.value = option->get_name();
    if (option->get_items_expected_max() == 0) view.value.clear();
    view.takes_several = option->get_items_expected_max() > 1;
    views.push_back(std::move(view));
  }
  return views;
}

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

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

// ---- manual pages

// A backslash, and a dash that is not a hyphen, have forms of their own; a line must not begin like
// a request.
std::string roff(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\')
      escaped += "\\e";
    else if (c == '-')
      escaped += "\\-";
    else if ((c == '.' || c == '\'') && (escaped.empty() || escaped.back() == '\n'))
      escaped += std::string("\\&") + c;
    else
      escaped += c;
  }
  return escaped;
}

std::string describe_option(const OptionView& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.names) names.push_back("\\fB" + roff(name) + "\\fR");
  std::string text = fmt::format(".TP\n{}", fmt::join(names, ", "));
  if (!option.value.empty())
    text += (names.empty() ? "" : " ") + ("\\fI" + roff(option.value) + "\\fR");
  text += "\n" + roff(option.description);
  if (!option.initial.empty()) text += roff(" (default: " + option.initial + ")");
  return text + "\n";
}

// ---- completions

std::string names_of(const std::vector<OptionView>& options) {
  std::vector<std::string> names;
  for (const OptionView& option : options)
    names.insert(names.end(), option.names.begin(), option.names.end());
  return fmt::format("{}", fmt::join(names, " "));
}

std::string names_of(const std::vector<const CLI::App*>& commands) {
  std::vector<std::string> names;
  for (const CLI::App* command : commands) names.push_back(command->get_name());
  return fmt::format("{}", fmt::join(names, " "));
}

std::string bash_script(const CLI::App& app) {
  std::string text =
      "# bash completion for collect-workloads\n"
      "_collect_workloads() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} "
      "command=${COMP_WORDS[1]} i\n"
      "  COMPREPLY=()\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n";
  text += fmt::format(
      "    mapfile -t COMPREPLY < <(compgen -W '{} {}' -- \"$word\")\n    return\n  fi\n",
      names_of(commands_of(app)), names_of(options_of(app)));
  // What comes after "--" is another command.
  text +=
      "  for ((i = 2; i < COMP_CWORD; ++i)); do\n"
      "    [ \"${COMP_WORDS[i]}\" = -- ] && { mapfile -t COMPREPLY < <(compgen -c -f -- "
      "\"$word\"); return; }\n"
      "  done\n"
      "  case $command in\n";
  for (const CLI::App* command : commands_of(app)) {
    const auto options = options_of(*command);
    text += fmt::format("    {})\n      case $previous in\n", command->get_name());
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
    const auto positional =
        std::find_if(options.begin(), options.end(),
                     [](const OptionView& option) { return option.names.empty(); });
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

std::string zsh_script(const CLI::App& app) {
  std::string text =
      "#compdef collect-workloads\n"
      "_collect_workloads() {\n"
      "  local -a commands=(\n";
  for (const CLI::App* command : commands_of(app))
    text += fmt::format("    '{}:{}'\n", command->get_name(),
                        zsh(in_one_line(command->get_description())));
  text +=
      "  )\n"
      "  if (( CURRENT == 2 )); then\n"
      "    _describe command commands\n"
      "    return\n"
      "  fi\n"
      "  local command=$words[2]\n"
      "  shift words; (( CURRENT-- ))\n"
      "  case $command in\n";
  for (const CLI::App* command : commands_of(app)) {
    text += fmt::format("    {}) _arguments", command->get_name());
    for (const OptionView& option : options_of(*command)) {
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

std::string fish_script(const CLI::App& app) {
  std::string text = "# fish completion for collect-workloads\n";
  const std::string names = names_of(commands_of(app));
  for (const CLI::App* command : commands_of(app))
    text += fmt::format(
        "complete -c collect-workloads -n 'not __fish_seen_subcommand_from {}' -f -a {} -d '{}'\n",
        names, command->get_name(), fish(in_one_line(command->get_description())));
  for (const CLI::App* command : commands_of(app)) {
    for (const OptionView& option : options_of(*command)) {
      if (option.names.empty()) continue;
      text += fmt::format("complete -c collect-workloads -n '__fish_seen_subcommand_from {}'",
                          command->get_name());
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

}  // namespace

std::string manual_page(const CLI::App& app, const CLI::App& command) {
  const bool is_whole = &app == &command;
  const std::string name = is_whole ? app.get_name() : app.get_name() + "-" + command.get_name();
  std::string text = fmt::format(".TH \"{}\" 1 \"\" \"{} {}\"\n", name, app.get_name(), CW_VERSION);
  text += fmt::format(".SH NAME\n{} \\- {}\n", roff(name),
                      roff(in_one_line(command.get_description())));

  text += fmt::format(".SH SYNOPSIS\n\\fB{}\\fR", roff(app.get_name()));
  if (is_whole)
    text += " \\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n";
  else {
    text += fmt::format(" \\fB{}\\fR [\\fIOPTIONS\\fR]", roff(command.get_name()));
    for (const OptionView& option : options_of(command))
      if (option.names.empty())
        text += fmt::format(" {}\\fI{}\\fR{}", option.value == "COMMAND" ? "\\-\\- " : "",
                            roff(option.value), option.takes_several ? "..." : "");
    text += "\n";
  }

  if (is_whole) {
    text += ".SH COMMANDS\n";
    for (const CLI::App* other : commands_of(app))
      text +=
          fmt::format(".TP\n\\fB{}\\fR(1)\n{}\n", roff(app.get_name() + "-" + other->get_name()),
                      roff(in_one_line(other->get_description())));
  }
  text += ".SH OPTIONS\n";
  for (const OptionView& option : options_of(command)) text += describe_option(option);

  const std::string footer = command.get_footer().empty() ? app.get_footer() : command.get_footer();
  if (!footer.empty()) text += ".SH NOTES\n" + roff(footer) + "\n";
  text += ".SH SEE ALSO\n";
  text += is_whole ? "\\fBcollect\\-workloads\\fR \\fICOMMAND\\fR \\-\\-help\n"
                   : "\\fBcollect\\-workloads\\fR(1)\n";
  return text;
}

std::string completion_script(const CLI::App& app, Shell shell) {
  switch (shell) {
    case Shell::bash:
      return bash_script(app);
    case Shell::zsh:
      return zsh_script(app);
    case Shell::fish:
      return fish_script(app);
  }
  return {};
}

}  // namespace cw::cli
