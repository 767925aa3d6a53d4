// A pull request on the Hub.
//
// What is missing is computed against the revision that will be changed: main for a new pull request, refs/pr/N for one that
// is there. So an interrupted run, a lost answer and a revision that moved on are all mended in the same way: look again,
// and send what is missing then.
#include <chrono>
#include <set>
#include <thread>

#include "base/console.h"
#include "base/output.h"
#include "base/process.h"
#include "submit/plan.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t most_attempts = 5;
constexpr std::size_t files_a_commit = 10'000;  // the Hub's limit is 25,000

class HubSubmitter final : public Submitter {
 public:
  HubSubmitter(const SubmitOptions& options, const SubmissionPlan& plan) : options_(options), plan_(plan) {}

  Result<SubmitOutcome> run() override {
    forbid_core_dumps();
    auto token = find_token();
    if (!token && !(options_.is_dry_run && token.error().code == "no_token")) return tl::unexpected(token.error());
    WebOptions web_options;
    web_options.note = options_.note;
    WebClient web(token ? &token->secret : nullptr, options_.endpoint, web_options);
    Hub hub(web, options_.endpoint, options_.repo);
    HubUser user;
    if (token) {
      CW_TRY(user, hub.whoami());
      if (!user.may_write && !options_.is_dry_run)
        return fail("hub_read_only", "the token ({}) may only read; a pull request needs one that may write", token->origin);
    }
    for (std::size_t attempt = 1;; ++attempt) {
      auto outcome = try_once(hub, user);
      if (outcome) outcome->bytes_sent = web.sent();
      const bool may_look_again = !outcome && attempt < most_attempts && stop_signal() == 0 &&
                                  (outcome.error().code == "hub_moved" || outcome.error().code == "answer_lost");
      if (!may_look_again) return outcome;
      options_.note(outcome.error().message + "; looking again");
      std::this_thread::sleep_for(std::chrono::milliseconds(500) * attempt);
    }
  }

 private:
  // A copy of the revision's texts, and of those blobs that have to be looked into.
  Result<SubmitOutcome> propose(Hub& hub, const std::string& commit, const std::string& base) {
    CW_TRY(TemporaryDirectory folder, TemporaryDirectory::create());
    const auto fetch = [&](const std::vector<std::string>& paths) -> Result<void> {
      for (std::size_t i = 0; i < paths.size(); ++i) {
        options_.progress(fmt::format("reading {} of {} files of {}", i + 1, paths.size(), base));
        CW_CHECK(make_directories((folder.path() / paths[i]).parent_path()));
        CW_CHECK(hub.download(commit, paths[i], folder.path() / paths[i]));
      }
      return {};
    };
    // Many are not there: asked about together.
    CW_TRY(const auto there, hub.files(commit, compared_files(plan_.dataset())));
    std::vector<std::string> paths;
    for (const auto& [path, file] : there) paths.push_back(path);
    CW_CHECK(fetch(paths));
    return plan_.propose(folder.path(), fetch, base);
  }

  Result<SubmitOutcome> try_once(Hub& hub, const HubUser& user) {
    std::optional<PullRequest> target;
    if (options_.pull_request) target = PullRequest{*options_.pull_request, "", hub.page(*options_.pull_request)};
    std::string revision = target ? fmt::format("refs/pr/{}", target->number) : "main";
    CW_TRY(std::string head, hub.head(revision));
    CW_TRY(SubmitOutcome outcome, propose(hub, head, fmt::format("{} {} at {}", options_.repo, revision, head.substr(0, 8))));
    if (outcome.proposal.added == 0) {
      if (target) outcome.url = target->url;
      outcome.was_there = true;
      return outcome;
    }
    planned = outcome;
    if (options_.is_dry_run) return outcome;
    if (!target) {
      CW_TRY(const auto found, hub.pull_requests(user.name, "[" + outcome.proposal.fingerprint + "]"));
      if (!found.empty()) {
        target = found.front();
        revision = fmt::format("refs/pr/{}", target->number);
        CW_TRY(head, hub.head(revision));
        CW_TRY(SubmitOutcome rest, propose(hub, head, fmt::format("{} {}", options_.repo, revision)));
        outcome.pull_request = target->number;
        outcome.url = target->url;
        outcome.was_there = rest.proposal.added == 0;
        outcome.proposal = std::move(rest.proposal);
        if (outcome.was_there) return outcome;
      }
    }
    return send(hub, std::move(outcome), std::move(target), std::move(revision), std::move(head));
  }

  Result<SubmitOutcome> send(Hub& hub, SubmitOutcome outcome, std::optional<PullRequest> target, std::string revision,
                             std::string head) {
    CW_TRY(std::vector<Upload> uploads, hub.prepare(outcome.proposal.files, revision, !target));
    CW_CHECK(hub.upload(uploads, target ? revision : "", [this](std::size_t done, std::size_t all) {
      options_.progress(fmt::format("sending blobs: {} of {}", with_separators(done), with_separators(all)));
    }));
    std::erase_if(uploads, [](const Upload& upload) { return upload.is_unchanged; });
    for (std::size_t begin = 0; begin < uploads.size(); begin += files_a_commit) {
      const std::size_t end = std::min(uploads.size(), begin + files_a_commit);
      const std::vector<Upload> part(uploads.begin() + static_cast<std::ptrdiff_t>(begin),
                                     uploads.begin() + static_cast<std::ptrdiff_t>(end));
      options_.progress(target ? "committing" : "opening the pull request");
      CW_TRY(const HubCommit commit, hub.commit(part, outcome.title, outcome.description, revision, head, !target));
      if (!target) {
        target = commit.pull_request;
        revision = fmt::format("refs/pr/{}", target->number);
      }
      head = commit.id;
    }
    outcome.commit = head;
    outcome.pull_request = target->number;
    outcome.url = target->url;
    CW_CHECK(compare_with_sent(hub, uploads, head));
    return outcome;
  }

  // What the Hub says that it has must be what it was given.
  Result<void> compare_with_sent(Hub& hub, const std::vector<Upload>& uploads, const std::string& commit) {
    options_.progress("checking what arrived");
    std::vector<std::string> paths;
    for (const Upload& upload : uploads) paths.push_back(upload.file->path);
    CW_TRY(const auto there, hub.files(commit, paths));
    for (const Upload& upload : uploads) {
      const UploadFile& file = *upload.file;
      const auto found = there.find(file.path);
      bool is_equal = found != there.end() && found->second.size == file.size;
      if (is_equal && upload.mode == UploadMode::lfs) is_equal = found->second.lfs_sha256 == file.sha256;
      if (is_equal && upload.mode == UploadMode::regular) {
        CW_TRY(const std::string content, file.head(file.size));
        is_equal = found->second.git_id == git_blob_id(content);
      }
      if (!is_equal)
        return fail("hub_lied", "{} is not on the server as it was sent: {} has {}; sent were {} bytes with SHA-256 {}",
                    file.path, commit.substr(0, 12), found == there.end() ? "no such file" : "other bytes", file.size,
                    file.sha256);
    }
    return {};
  }

  const SubmitOptions& options_;
  const SubmissionPlan& plan_;
};

}  // namespace

std::unique_ptr<Submitter> hub_submitter(const SubmitOptions& options, const SubmissionPlan& plan) {
  return std::make_unique<HubSubmitter>(options, plan);
}

}  // namespace cw
