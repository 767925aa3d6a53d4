#include <algorithm>
#include <cstdio>

#include <fmt/ranges.h>

#include "base/console.h"
#include "cli/command.h"
#include "cli/errors.h"

namespace cw::cli {
namespace {

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
  for (const std::string& name : option.names)
    names.push_back(fmt::format("\\fB{}\\fR", roff(name)));
  std::string text = fmt::format(".TP\n{}", fmt::join(names, ", "));
  if (!option.value.empty())
    text += fmt::format("{}\\fI{}\\fR", names.empty() ? "" : " ", roff(option.value));
  text += fmt::format("\n{}", roff(option.description));
  if (!option.initial.empty()) text += roff(" (default: " + option.initial + ")");
  return text + "\n";
}

std::string synopsis_of(const std::string& program, const CommandView* command) {
  std::string text = fmt::format(".SH SYNOPSIS\n\\fB{}\\fR", roff(program));
  if (command == nullptr) return text + " \\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n";

  text += fmt::format(" \\fB{}\\fR [\\fIOPTIONS\\fR]", roff(command->name));
  for (const OptionView& option : command->options)
    if (option.names.empty())
      text += fmt::format(" {}\\fI{}\\fR{}", option.value == "COMMAND" ? "\\-\\- " : "",
                          roff(option.value), option.takes_several ? "..." : "");
  return text + "\n";
}

// The page collect-workloads(1), or that of one of its commands, collect-workloads-COMMAND(1), in
// the macros of man(7). `command` is null for the program's own.
std::string manual_page(const ProgramView& program, const CommandView* command) {
  const CommandView& shown = command != nullptr ? *command : program.program;
  const std::string& own_name = program.program.name;
  const std::string name = command != nullptr ? own_name + "-" + command->name : own_name;
  std::string text = fmt::format(".TH \"{}\" 1 \"\" \"{} {}\"\n", name, own_name, CW_VERSION);
  text += fmt::format(".SH NAME\n{} \\- {}\n", roff(name), roff(shown.description));
  text += synopsis_of(own_name, command);

  if (command == nullptr) {
    text += ".SH COMMANDS\n";
    for (const CommandView& other : program.commands)
      text += fmt::format(".TP\n\\fB{}\\fR(1)\n{}\n", roff(own_name + "-" + other.name),
                          roff(other.description));
  }
  text += ".SH OPTIONS\n";
  for (const OptionView& option : shown.options) text += describe_option(option);

  const std::string& footer = shown.footer.empty() ? program.program.footer : shown.footer;
  if (!footer.empty()) text += ".SH NOTES\n" + roff(footer) + "\n";
  text += ".SH SEE ALSO\n";
  return text + (command == nullptr ? "\\fBcollect\\-workloads\\fR \\fICOMMAND\\fR \\-\\-help\n"
                                    : "\\fBcollect\\-workloads\\fR(1)\n");
}

class ManCommand final : public Command {
 public:
  std::string name() const override { return "man"; }
  std::string description() const override { return "Print the manual page, or one command's"; }
  bool has_common_options() const override { return false; }

  void declare(Options& options) override {
    options.value("command", command_, "Command to describe (default: the program)").meta("NAME");
    options.footer("To read it:  collect-workloads man collect | man -l -");
  }

  int run(const CommonArguments& common) override {
    const auto& commands = common.program->commands;
    const auto found = std::ranges::find(commands, command_, &CommandView::name);
    if (found == commands.end() && !command_.empty())
      return print_error({"usage", "there is no command " + command_},
                         "collect-workloads --help lists them.");
    print(stdout, manual_page(*common.program, found == commands.end() ? nullptr : &*found));
    return exit_success;
  }

 private:
  std::string command_;
};

}  // namespace

std::unique_ptr<Command> make_man() {
  return std::make_unique<ManCommand>();
}

}  // namespace cw::cli
