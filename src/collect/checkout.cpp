#include "collect/checkout.h"

#include "base/git.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::minutes step_limit{30};
constexpr const char* remote_main = "refs/remotes/origin/main";

class Checkout {
 public:
  Checkout(const CheckoutOptions& options, const std::function<void(const std::string&)>& say,
           const std::function<void(const std::string&)>& note)
      : options_(options),
        path_(fs::absolute(options.path).lexically_normal()),
        say_(say),
        note_(note) {}

  Result<void> prepare() {
    std::error_code error;
    if (!fs::is_directory(path_, error))
      return fail("not_found",
                  "{0}: no such folder; create it with\n  git clone "
                  "https://github.com/sgl-project/sglang {0}",
                  options_.path.string());
    if (options_.updates) CW_CHECK(update());
    return install();
  }

 private:
  Command git(std::vector<std::string> words) const {
    words.insert(words.begin(), {"-C", path_.string()});
    return git_command(std::move(words));
  }

  // For read-only commands: the first line of output, without the newline.
  Result<std::string> ask(std::vector<std::string> words) const {
    CW_TRY(const std::string answer, run(git(std::move(words))));
    return answer.substr(0, answer.find('\n'));
  }

  Result<void> step(const Command& command) const {
    say_(to_shell({command.arguments}));
    if (options_.is_dry_run) return {};
    CW_CHECK(run(command, step_limit));
    return {};
  }

  Result<void> update() const {
    if (const auto reason = why_left_alone()) {
      note_(fmt::format("{} {}: it is used as it is", options_.path.string(), *reason));
      return {};
    }
    CW_CHECK(step(git({"fetch", "--quiet", "origin"})));

    const std::string ref = branch_ref(options_.branch);
    if (!ask({"rev-parse", "--verify", "--quiet", ref}))
      return step(
          git({"checkout", "--quiet", "--no-track", "-b", options_.branch, remote_main, "--"}));

    // The user has worked on it: the original skill tells people to commit there.
    CW_TRY(const std::string own, ask({"rev-list", "--count", ref, "--not", remote_main, "--"}));
    if (own == "0")
      return step(
          git({"checkout", "--quiet", "--no-track", "-B", options_.branch, remote_main, "--"}));
    note_(fmt::format("branch {} has {} of its own: it is not updated", options_.branch,
                      own == "1" ? "a commit" : own + " commits"));
    return step(git({"checkout", "--quiet", options_.branch, "--"}));
  }

  // Nothing if it may be updated.
  std::optional<std::string> why_left_alone() const {
    std::error_code error;
    // Without its own .git, git would use the repository around the folder.
    if (!fs::exists(path_ / ".git", error)) return "is not a git checkout";
    const auto changes = ask({"--no-optional-locks", "status", "--porcelain"});
    if (!changes) return "cannot be read by git";
    if (!changes->empty()) return "has uncommitted changes";

    const bool is_detached = !ask({"symbolic-ref", "--quiet", "HEAD"});
    const auto unnamed =
        ask({"rev-list", "--count", "HEAD", "--not", "--branches", "--remotes", "--"});
    if (is_detached && (!unnamed || *unnamed != "0")) return "has commits that are on no branch";
    return {};
  }

  Result<void> install() const {
    std::error_code error;
    fs::path project = path_;
    for (const char* folder : {".", "python"})
      if (fs::exists(path_ / folder / "pyproject.toml", error))
        project = (path_ / folder).lexically_normal();
    return step({{options_.python, "-m", "pip", "install", "--quiet", "-e", project.string()}});
  }

  const CheckoutOptions& options_;
  const fs::path path_;  ///< absolute, so that it is never taken for an option
  const std::function<void(const std::string&)>& say_;
  const std::function<void(const std::string&)>& note_;
};

}  // namespace

Result<void> prepare_checkout(const CheckoutOptions& options,
                              const std::function<void(const std::string&)>& say,
                              const std::function<void(const std::string&)>& note) {
  return Checkout(options, say, note).prepare();
}

}  // namespace cw
