#include "base/git.h"

#include <iterator>

namespace cw {

Command git_command(std::vector<std::string> arguments, const std::filesystem::path& directory) {
  Command command{{"git"}, {{"GIT_TERMINAL_PROMPT", "0"}}, directory};
  // The variables of `git rev-parse --local-env-vars` that name a repository or parts of it.
  command.removed = {"GIT_DIR",
                     "GIT_WORK_TREE",
                     "GIT_INDEX_FILE",
                     "GIT_COMMON_DIR",
                     "GIT_OBJECT_DIRECTORY",
                     "GIT_NAMESPACE",
                     "GIT_PREFIX",
                     "GIT_ALTERNATE_OBJECT_DIRECTORIES"};
  command.arguments.insert(command.arguments.end(), std::make_move_iterator(arguments.begin()),
                           std::make_move_iterator(arguments.end()));
  return command;
}

std::string branch_ref(const std::string& name) {
  return "refs/heads/" + name;
}

}  // namespace cw
