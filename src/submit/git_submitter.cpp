// A branch on any git remote, using git and git-lfs with the user's own configuration and
// credentials.
//
// The clone has commits and trees only (--filter=blob:none), and checks out no more than is
// compared.
#include <algorithm>
#include <ctime>
#include <set>

#include "base/console.h"
#include "base/file.h"
#include "base/git.h"
#include "base/output.h"
#include "submit/plan.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::hours git_limit{24};

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[16];
  std::strftime(text, sizeof text, "%Y%m%d", &parts);
  return text;
}

// Whether an op type's character may appear in a branch name.
bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

class GitSubmitter final : public Submitter {
 public:
  GitSubmitter(const SubmitOptions& options, const SubmissionPlan& plan)
      : options_(options), plan_(plan) {}

  Result<SubmitOutcome> run() override {
    CW_TRY(TemporaryDirectory folder, TemporaryDirectory::create());
    clone_ = folder.path() / "clone";
    auto outcome = submit();
    if (!outcome && is_committed_) {
      kept = clone_;
      folder.keep();
    }
    return outcome;
  }

 private:
  Result<std::string> git(std::vector<std::string> arguments, bool in_clone = true) {
    Command command = git_command(std::move(arguments), in_clone ? clone_ : fs::path());
    // Blobs are fetched only on demand.
    command.environment.insert(command.environment.end(),
                               {{"GIT_LFS_SKIP_SMUDGE", "1"}, {"LC_ALL", "C"}});
    auto output = cw::run(command, git_limit);
    if (output) return output;
    if (output.error().code == "spawn_failed")
      return fail("git_missing", "{}", output.error().message);
    if (output.error().code == "interrupted") return fail("interrupted", "interrupted");
    // Its first line is the whole command; what git said comes after.
    std::string message = output.error().message;
    for (std::size_t place; options_.remote != printable_remote(options_.remote) &&
                            (place = message.find(options_.remote)) != std::string::npos;)
      message.replace(place, options_.remote.size(), printable_remote(options_.remote));
    const std::size_t end = message.find('\n');
    return fail("git_failed", "git {} failed:\n{}", command.arguments[1],
                end == std::string::npos ? message : message.substr(end + 1));
  }

  Result<SubmitOutcome> submit() {
    has_lfs_ = git({"lfs", "version"}, false).has_value();
    if (!has_lfs_) {
      CW_CHECK(git({"--version"}, false));
      if (!options_.is_dry_run)
        return fail("git_missing", "git-lfs is not installed: blobs cannot be sent without it");
      options_.note("git-lfs is not installed: blobs of the remote are not read");
    }
    if (!options_.is_dry_run &&
        (!git({"var", "GIT_AUTHOR_IDENT"}, false) || !git({"var", "GIT_COMMITTER_IDENT"}, false)))
      return fail("git_identity",
                  "git has no author for the commit: user.name and user.email are not set");
    options_.progress("cloning without blobs");
    const auto cloned = git({"clone", "--quiet", "--filter=blob:none", "--no-checkout", "--",
                             options_.remote, clone_.string()},
                            false);
    if (!cloned && options_.is_dry_run && cloned.error().code == "git_failed")
      return plan_.without(cloned.error());
    if (!cloned) return tl::unexpected(cloned.error());

    // The user's hooks are not meant for this clone, nor git-lfs's for theirs; a link in the remote
    // stays a text file.
    CW_CHECK(git({"config", "core.hooksPath", (clone_ / ".git/hooks").string()}));
    CW_CHECK(git({"config", "core.symlinks", "false"}));
    if (has_lfs_) CW_CHECK(git({"lfs", "install", "--local"}));
    const auto head = git({"rev-parse", "--verify", "--quiet", "HEAD"});
    if (!head)
      return fail("git_failed", "{}: it has no commit to branch from",
                  printable_remote(options_.remote));
    CW_TRY(const std::string listed,
           git({"ls-tree", "-r", "--name-only", "-z", "HEAD", "definitions", "workloads"}));
    std::vector<std::string> there;
    for (std::size_t at = 0; at < listed.size(); at = listed.find('\0', at) + 1)
      there.emplace_back(listed.c_str() + at);
    CW_CHECK(check_places(plan_.dataset(), there));
    CW_CHECK(check_out(compared_files(plan_.dataset())));

    const std::string base =
        fmt::format("{} at {}", printable_remote(options_.remote), head->substr(0, 8));
    CW_TRY(
        SubmitOutcome outcome,
        plan_.propose(
            clone_, [this](const std::vector<std::string>& paths) { return fetch(paths); }, base));
    outcome.was_there = outcome.proposal.added == 0;
    if (outcome.was_there) return outcome;
    planned = outcome;
    CW_CHECK(choose_branch(outcome));
    planned = outcome;
    if (options_.is_dry_run || outcome.was_there) return outcome;
    CW_CHECK(commit(outcome));
    is_committed_ = true;
    options_.progress("pushing " + outcome.branch);
    CW_CHECK(git({"push", "--quiet", "--", "origin",
                  branch_ref(outcome.branch) + ":" + branch_ref(outcome.branch)}));
    return outcome;
  }

  Result<void> check_out(const std::vector<std::string>& paths) {
    std::string patterns = "/.gitattributes\n/.lfsconfig\n";
    for (const std::string& path : paths) patterns += "/" + path + "\n";
    CW_CHECK(git({"config", "core.sparseCheckout", "true"}));
    CW_CHECK(make_directories(clone_ / ".git/info"));
    CW_CHECK(write_atomically(clone_ / ".git/info/sparse-checkout", patterns, Durability::process));
    CW_CHECK(git({"read-tree", "-m", "-u", "HEAD"}));
    std::vector<std::string> pointers;
    for (const std::string& path : paths)
      if (is_lfs_pointer(clone_ / path)) pointers.push_back(path);
    return pointers.empty() || !has_lfs_ ? Result<void>() : fetch_lfs(pointers);
  }

  Result<void> fetch(const std::vector<std::string>& paths) {
    std::vector<std::string> all = compared_files(plan_.dataset());
    all.insert(all.end(), paths.begin(), paths.end());
    options_.progress(fmt::format("reading {} blobs of the remote", with_separators(paths.size())));
    return check_out(all);
  }

  Result<void> fetch_lfs(const std::vector<std::string>& paths) {
    CW_CHECK(
        git({"lfs", "pull", fmt::format("--include={}", fmt::join(paths, ",")), "--exclude="}));
    return {};
  }

  // workloads-YYYYMMDD-{op_type or mixed}; the same workloads may be on such a branch already.
  Result<void> choose_branch(SubmitOutcome& outcome) {
    std::string op_type;
    for (const DefinitionComparison& compared : outcome.proposal.definitions) {
      if (compared.added.empty()) continue;
      op_type = op_type.empty() || op_type == compared.op_type ? compared.op_type : "mixed";
      if (op_type == "mixed") break;
    }

    // Anyone with push access chooses names: consider only those of our own form.
    CW_TRY(const std::string listed,
           git({"ls-remote", "--heads", "--", "origin", branch_ref("workloads-*")}));
    std::vector<std::string> names;
    std::set<std::string> taken;  // also by branches below it: no ref is both a folder and a file
    for (std::size_t at = 0; at < listed.size();) {
      const std::size_t end = std::min(listed.find('\n', at), listed.size());
      const std::string line = listed.substr(at, end - at);
      at = end + 1;
      const std::size_t name = line.find("\trefs/heads/");
      if (name != std::string::npos)
        taken.insert(line.substr(name + 12, line.find('/', name + 12) - name - 12));
      if (name != std::string::npos && is_submission_branch(line.substr(name + 12)))
        names.push_back(line.substr(name + 12));
    }
    for (const std::string& name : names) {
      CW_CHECK(git({"fetch", "--quiet", "--filter=blob:none", "--depth=1", "--", "origin",
                    branch_ref(name)}));
      CW_TRY(const std::string subject, git({"log", "-1", "--format=%s%n%H", "FETCH_HEAD"}));
      if (subject.find(fmt::format("[{}]", outcome.proposal.fingerprint)) == std::string::npos)
        continue;
      outcome.branch = name;
      outcome.was_there = true;
      return {};
    }
    std::ranges::replace_if(
        op_type, [](char c) { return !is_plain(c); }, '_');
    const std::string stem = fmt::format("workloads-{}-{}", today(), op_type);
    outcome.branch = stem;
    for (int i = 2; taken.contains(outcome.branch); ++i)
      outcome.branch = fmt::format("{}-{}", stem, i);
    return {};
  }

  Result<void> commit(SubmitOutcome& outcome) {
    options_.progress("committing");
    CW_CHECK(git({"checkout", "--quiet", "-b", outcome.branch}));

    // Blobs go through LFS; a repository that does not track them yet is made to.
    std::string paths;
    for (const UploadFile& file : outcome.proposal.files)
      if (!file.source.empty() && !tracks_blobs_) {
        CW_TRY(const std::string attribute, git({"check-attr", "filter", "--", file.path}));
        if (attribute.find(": lfs") == std::string::npos) {
          CW_CHECK(git({"lfs", "track", "*.safetensors"}));
          paths += ".gitattributes\n";
        }
        tracks_blobs_ = true;
      }

    // Paths and message are passed in files: a command line is limited in length.
    CW_CHECK(write_files(outcome.proposal, clone_));
    for (const UploadFile& file : outcome.proposal.files) paths += file.path + "\n";
    const fs::path list = clone_ / ".git/collect-workloads.paths",
                   message = clone_ / ".git/collect-workloads.message";
    CW_CHECK(write_atomically(list, paths, Durability::process));
    CW_CHECK(write_atomically(message, outcome.title + "\n\n" + outcome.description,
                              Durability::process));

    CW_CHECK(
        git({"--literal-pathspecs", "add", "--sparse", "--pathspec-from-file=" + list.string()}));
    CW_CHECK(git({"commit", "--quiet", "--cleanup=verbatim", "-F", message.string()}));
    CW_TRY(const std::string id, git({"rev-parse", "HEAD"}));
    outcome.commit = first_line(id);
    for (const UploadFile& file : outcome.proposal.files) outcome.bytes_sent += file.size;
    return {};
  }

  const SubmitOptions& options_;
  const SubmissionPlan& plan_;
  fs::path clone_;
  bool is_committed_ = false, tracks_blobs_ = false, has_lfs_ = false;
};

}  // namespace

bool is_submission_branch(std::string_view name) {
  constexpr std::string_view prefix = "workloads-";
  constexpr std::size_t date_digits = 8;
  const auto take = [&name](auto is_wanted) {
    std::size_t count = 0;
    while (count < name.size() && is_wanted(name[count])) ++count;
    name.remove_prefix(count);
    return count;
  };
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto take_dash = [&name] {
    const bool is_there = name.starts_with('-');
    if (is_there) name.remove_prefix(1);
    return is_there;
  };
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  if (take(is_digit) != date_digits || !take_dash() || take(is_plain) == 0) return false;
  return name.empty() || (take_dash() && take(is_digit) > 0 && name.empty());
}

std::string printable_remote(const std::string& remote) {
  const std::size_t scheme = remote.find("://");
  if (scheme == std::string::npos) return remote;
  const std::string url = remote.substr(0, remote.find_first_of("?#"));
  const std::size_t host = scheme + 3, end = std::min(url.find('/', host), url.size()),
                    at = url.rfind('@', end);
  return at == std::string::npos || at < host ? url : url.substr(0, host) + url.substr(at + 1);
}

std::unique_ptr<Submitter> git_submitter(const SubmitOptions& options, const SubmissionPlan& plan) {
  return std::make_unique<GitSubmitter>(options, plan);
}

}  // namespace cw
