#include "collect/checkout.h"

namespace cw {

Result<void> prepare_checkout(const CheckoutOptions& options, const std::function<void(const std::string&)>& say) {
  std::error_code error;
  if (!std::filesystem::is_directory(options.path, error))
    return fail("not_found", "{}: no such folder; get one with\n  git clone https://github.com/sgl-project/sglang {}",
                options.path.string(), options.path.string());
  const auto git = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"git", "-C", options.path.string()});
    return Command{std::move(words), {{"GIT_TERMINAL_PROMPT", "0"}}};
  };
  const auto step = [&](const Command& command) -> Result<std::string> {
    say(to_shell({command.arguments}));
    return run(command, std::chrono::minutes(30));
  };
  CW_TRY(const std::string changes, run(git({"status", "--porcelain"})));
  if (!changes.empty() && options.updates)
    say(fmt::format("{} has uncommitted changes: it is used as it is", options.path.string()));
  if (changes.empty() && options.updates) {
    CW_CHECK(step(git({"fetch", "--quiet", "origin"})));
    CW_CHECK(step(git({"checkout", "--quiet", "main"})));
    CW_CHECK(step(git({"pull", "--quiet", "--ff-only"})));
    CW_CHECK(step(git({"checkout", "--quiet", "-B", options.branch})));
  }
  std::filesystem::path project = options.path;
  for (const char* folder : {".", "python"})
    if (std::filesystem::exists(options.path / folder / "pyproject.toml", error)) project = options.path / folder;
  CW_CHECK(step({{options.python, "-m", "pip", "install", "--quiet", "-e", project.lexically_normal().string()}}));
  return {};
}

}  // namespace cw
