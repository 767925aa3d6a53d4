#include <cstdio>

#include "base/console.h"
#include "cli/built_in_skill.h"
#include "cli/command.h"

namespace cw::cli {
namespace {

class SkillCommand final : public Command {
 public:
  std::string name() const override { return "skill"; }
  std::string description() const override { return "Print a SKILL.md for coding agents"; }
  void declare(Options&) override {}
  bool has_common_options() const override { return false; }

  int run(const CommonArguments&) override {
    print(stdout, built_in_skill());
    return exit_success;
  }
};

}  // namespace

std::unique_ptr<Command> make_skill() {
  return std::make_unique<SkillCommand>();
}

}  // namespace cw::cli
