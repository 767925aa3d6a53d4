// Running git.
//
// What comes from a repository (branches, paths) or from a user (URLs) is never passed where git
// looks for options: it comes after `--`, or in a form that cannot be an option, such as
// refs/heads/NAME.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/process.h"

namespace cw {

/// `git ARGUMENTS`, in `directory` if that is not empty. It never prompts for credentials, and uses
/// the repository found there, not one set in the environment by a hook or script that started us.
Command git_command(std::vector<std::string> arguments,
                    const std::filesystem::path& directory = {});

/// "refs/heads/NAME"
std::string branch_ref(const std::string& name);

}  // namespace cw
