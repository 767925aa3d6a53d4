// Command lines as people type them into a shell.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cw {

/// Splits a command line into words, honouring the shell's quotes and backslashes. Nothing is
/// expanded.
std::vector<std::string> shell_words(std::string_view text);

/// Removes and returns leading assignments: NAME=value … command.
std::vector<std::pair<std::string, std::string>> take_assignments(std::vector<std::string>& words);

}  // namespace cw
