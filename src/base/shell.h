// Command lines as people type them into a shell.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cw {

/// The words of a command line, with the shell's quotes and backslashes. Nothing is expanded.
std::vector<std::string> shell_words(std::string_view text);

/// Takes the assignments in front off: NAME=value … command.
std::vector<std::pair<std::string, std::string>> take_assignments(std::vector<std::string>& words);

}  // namespace cw
