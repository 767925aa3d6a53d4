#include "engine/launch_command.h"

#include <cstdlib>

#include "base/shell.h"

namespace cw {
namespace {

// The value of a flag, in its own word or within a shell script.
std::optional<std::string> value_of(const std::string& text, std::string_view flag) {
  for (std::size_t place = text.find(flag); place != std::string::npos;
       place = text.find(flag, place + 1)) {
    std::size_t begin = place + flag.size();
    if (begin == text.size() || (text[begin] != '=' && text[begin] != ' ')) continue;
    begin = text.find_first_not_of(" =\"'", begin);
    if (begin == std::string::npos) continue;
    return text.substr(begin, text.find_first_of(" \t\n\"';&|", begin) - begin);
  }
  return {};
}

}  // namespace

Result<LaunchCommand> parse_launch_command(const std::string& text, const Recipes& recipes) {
  LaunchCommand command{.words = shell_words(text)};
  command.environment = take_assignments(command.words);
  if (command.words.empty())
    return fail("launch_command_empty", "--launch-command: '{}' contains no command", text);

  // Placeholders are ours to fill in.
  if (text.find("{host}") == std::string::npos) command.host = value_of(text, "--host");
  if (text.find("{port}") != std::string::npos) return command;

  if (const auto port = value_of(text, "--port")) {
    command.port = std::atoi(port->c_str());
    if (command.port >= 1 && command.port <= 65535) return command;
    return fail(
        "port_unknown",
        "--launch-command: '{}' is not a port; write {{port}} there and a free port is used",
        *port);
  }

  // Without a flag: the engine's documented default.
  for (const auto& [name, engine] : recipes.engines)
    if (engine.port != 0 && text.find(name) != std::string::npos) command.port = engine.port;
  if (command.port == 0)
    return fail("port_unknown",
                "--launch-command does not say where the engine listens; write {{port}} where its "
                "port belongs, or --port N as it takes it");
  return command;
}

}  // namespace cw
