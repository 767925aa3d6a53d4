// How git is called.
//
// What comes from a repository (branches, paths) or from a user (URLs) never stands where git looks
// for options: it comes behind
// `--`, or in a form that begins with something else, as refs/heads/NAME does.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/process.h"

namespace cw {

/// `git ARGUMENTS`, in `directory` where that is not empty. It asks nobody for credentials, and
/// takes the repository that it finds there, not the one that a hook or script that started us
/// works on.
Command git_command(std::vector<std::string> arguments,
                    const std::filesystem::path& directory = {});

/// "refs/heads/NAME"
std::string branch_ref(const std::string& name);

}  // namespace cw
