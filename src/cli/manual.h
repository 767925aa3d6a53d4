// Manual pages and completions for shells, made from what the option parser knows.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace cw::cli {

enum class Shell { bash, zsh, fish };

/// The page collect-workloads(1), or that of one of its commands, collect-workloads-COMMAND(1), in
/// the macros of man(7).
std::string manual_page(const CLI::App& app, const CLI::App& command);

/// A script for the shell: bash sources it or finds it in bash-completion/completions, zsh finds it
/// as _collect-workloads on its fpath, fish in completions/.
std::string completion_script(const CLI::App& app, Shell shell);

}  // namespace cw::cli
