// A pull request on the Hub.
//
// What is new is computed against main, what is missing against the revision to be changed: main
// for a new pull request, refs/pr/N for an existing one. So an interrupted run, a lost answer and a
// revision that has moved on are all handled in the same way: look again, and send what is then
// missing.
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

constexpr std::size_t max_attempts = 5;
constexpr std::size_t files_a_commit = 10'000;  // the Hub's limit is 25,000

// Where a proposal is sent: to main, where it opens a pull request, or to an existing pull request.
struct Target {
  std::optional<PullRequest> pull_request;
  std::string revision, head;
};

class HubSubmitter final : public Submitter {
 public:
  HubSubmitter(const SubmitOptions& options, const SubmissionPlan& plan, const Token* token)
      : options_(options), plan_(plan), token_(token) {}

  Result<SubmitOutcome> run() override {
    WebOptions web_options;
    web_options.note = options_.note;
    if (options_.is_dry_run) web_options.tries = 2;
    WebClient web(token_ != nullptr ? &token_->secret : nullptr, options_.endpoint, web_options);
    Hub hub(web, options_.endpoint, options_.repo);

    // Who is the user, and may they write?
    HubUser user;
    if (token_ != nullptr) {
      auto found = hub.whoami();
      if (!found && options_.is_dry_run && found.error().code == "connection")
        return plan_.without(found.error());
      CW_TRY(user, std::move(found));
      if (!user.may_write && !options_.is_dry_run)
        return fail("hub_read_only",
                    "the token ({}) is read-only; a pull request needs one with write access",
                    token_->origin);
    }

    // Others may commit in between; then try again on top of that.
    for (std::size_t attempt = 1;; ++attempt) {
      auto outcome = try_once(hub, user);
      if (!outcome && options_.is_dry_run && outcome.error().code == "connection")
        return plan_.without(outcome.error());
      if (outcome && !outcome->commit.empty()) outcome->bytes_sent = web.sent();

      const bool may_look_again =
          !outcome && attempt < max_attempts && stop_signal() == 0 &&
          (outcome.error().code == "hub_moved" || outcome.error().code == "answer_lost");
      if (!may_look_again) return outcome;
      options_.note(outcome.error().message + "; looking again");
      std::this_thread::sleep_for(std::chrono::milliseconds(500) * attempt);
    }
  }

 private:
  // Against a copy of the revision's text files, and of the blobs that have to be read. `among`:
  // only of these.
  Result<SubmitOutcome> propose(Hub& hub, const std::string& commit, const std::string& base,
                                const Proposal* among) {
    CW_TRY(TemporaryDirectory folder, TemporaryDirectory::create());
    std::set<std::string> listed;
    const auto fetch = [&](const std::vector<std::string>& paths) -> Result<void> {
      for (std::size_t i = 0; i < paths.size(); ++i) {
        options_.progress(fmt::format("reading {} of {} files of {}", i + 1, paths.size(), base));
        // Paths come from the other side: nothing is written outside the folder.
        CW_TRY(const fs::path to, resolve_blob(folder.path(), paths[i]));
        CW_CHECK(make_directories(to.parent_path()));
        CW_TRY(const bool is_there, hub.download(commit, paths[i], to));
        if (!is_there && listed.contains(paths[i]))
          return fail("hub_malformed", "the server lists {} but does not return it", paths[i]);
      }
      return {};
    };
    for (const char* place : {"definitions", "workloads"}) {
      CW_TRY(const auto paths, hub.tree(commit, place));
      CW_CHECK(check_places(plan_.dataset(), paths));
      listed.insert(paths.begin(), paths.end());
    }

    // Many do not exist: ask about them together.
    const std::vector<std::string> compared = compared_files(plan_.dataset());
    CW_TRY(const auto there, hub.files(commit, compared));
    for (const std::string& path : compared)
      if (listed.contains(path) != there.contains(path))
        return fail("hub_malformed", "the server contradicts itself about {}", path);
    std::vector<std::string> paths;
    for (const auto& [path, file] : there) paths.push_back(path);
    CW_CHECK(fetch(paths));
    return plan_.propose(folder.path(), fetch, base, among);
  }

  Result<SubmitOutcome> try_once(Hub& hub, const HubUser& user) {
    // What does the main branch lack?
    Target target{std::nullopt, "main", {}};
    CW_TRY(target.head, hub.head(target.revision));
    CW_TRY(SubmitOutcome outcome,
           propose(hub, target.head,
                   fmt::format("{} main at {}", options_.repo, target.head.substr(0, 8)), nullptr));
    outcome.was_there = outcome.proposal.added == 0;
    if (outcome.was_there) return outcome;
    planned = outcome;

    // Is there a pull request with it already?
    CW_TRY(target.pull_request, find_pull_request(hub, user, outcome.proposal.fingerprint));
    if (target.pull_request) {
      target.revision = fmt::format("refs/pr/{}", target.pull_request->number);
      auto head = hub.head(target.revision);
      if (!head && head.error().code == "hub_not_found")
        return fail("no_pull_request",
                    "{} has no pull request {}, or the token has no access to it", options_.repo,
                    target.pull_request->number);
      CW_TRY(target.head, std::move(head));
      // Its text files get what they lack; all blobs are checked again.
      CW_TRY(SubmitOutcome rest,
             propose(hub, target.head, options_.repo + " " + target.revision, &outcome.proposal));
      std::vector<UploadFile>& files = outcome.proposal.files;
      std::erase_if(files, [](const UploadFile& file) { return file.source.empty(); });
      for (UploadFile& file : rest.proposal.files)
        if (file.source.empty()) files.push_back(std::move(file));
      outcome.pull_request = target.pull_request->number;
      outcome.url = target.pull_request->url;
    }

    if (options_.is_dry_run) return outcome;
    return send(hub, std::move(outcome), std::move(target));
  }

  // The requested one, or the one that an earlier run opened for the same workloads.
  Result<std::optional<PullRequest>> find_pull_request(Hub& hub, const HubUser& user,
                                                       const std::string& fingerprint) {
    if (options_.pull_request)
      return PullRequest{*options_.pull_request, "", hub.page(*options_.pull_request)};
    if (user.name.empty()) return std::nullopt;
    CW_TRY(const auto open, hub.pull_requests(user.name, "["));
    const std::string mark = fmt::format("[{}]", fingerprint);
    for (const PullRequest& candidate : open)
      if (candidate.title.ends_with(mark)) return candidate;
    for (const PullRequest& candidate : open)
      if (candidate.title.starts_with("Add ") && candidate.title.ends_with("]"))
        options_.note(
            fmt::format("You have another one open, with other workloads: {} (--pr {} adds to it)",
                        candidate.url, candidate.number));
    return std::nullopt;
  }

  static Hub::CommitKind kind_of(const Target& target) {
    return target.pull_request ? Hub::CommitKind::direct : Hub::CommitKind::new_pull_request;
  }

  Result<SubmitOutcome> send(Hub& hub, SubmitOutcome outcome, Target target) {
    CW_TRY(std::vector<Upload> uploads,
           hub.prepare(outcome.proposal.files, target.revision, kind_of(target)));
    std::erase_if(uploads, [](const Upload& upload) { return upload.is_unchanged; });
    outcome.was_there = uploads.empty();
    if (outcome.was_there) return outcome;

    // Blobs first: they are invisible until the commit.
    CW_CHECK(hub.upload(uploads, target.pull_request ? target.revision : "",
                        [this](std::size_t done, std::size_t all) {
                          options_.progress(fmt::format("sending blobs: {} of {}",
                                                        with_separators(done),
                                                        with_separators(all)));
                        }));
    if (stop_signal() != 0) return fail("interrupted", "interrupted before the commit");

    // Then the commits, each with a limited number of files.
    for (std::size_t begin = 0; begin < uploads.size(); begin += files_a_commit) {
      const std::size_t end = std::min(uploads.size(), begin + files_a_commit);
      const std::vector<Upload> part(uploads.begin() + static_cast<std::ptrdiff_t>(begin),
                                     uploads.begin() + static_cast<std::ptrdiff_t>(end));
      options_.progress(target.pull_request ? "committing" : "opening the pull request");
      CW_TRY(const HubCommit commit, hub.commit(part, outcome.title, outcome.description,
                                                target.revision, target.head, kind_of(target)));
      if (!target.pull_request) {
        target.pull_request = commit.pull_request;
        target.revision = fmt::format("refs/pr/{}", target.pull_request->number);
      }
      target.head = commit.id;
    }
    outcome.commit = target.head;
    outcome.pull_request = target.pull_request->number;
    outcome.url = target.pull_request->url;
    planned = outcome;  // whatever happens from here on, it is open
    CW_CHECK(compare_with_sent(hub, uploads, target.head));
    return outcome;
  }

  // What the Hub says it has must be what it was given.
  Result<void> compare_with_sent(Hub& hub, const std::vector<Upload>& uploads,
                                 const std::string& commit) {
    options_.progress("checking the upload");
    std::vector<std::string> paths;
    for (const Upload& upload : uploads) paths.push_back(upload.file->path);
    CW_TRY(const auto there, hub.files(commit, paths));

    for (const Upload& upload : uploads) {
      const UploadFile& file = *upload.file;
      const auto found = there.find(file.path);
      bool is_equal = found != there.end() && found->second.size == file.size;
      if (is_equal && upload.mode == UploadMode::lfs)
        is_equal = found->second.lfs_sha256 == file.sha256;
      if (is_equal && upload.mode == UploadMode::regular) {
        CW_TRY(const std::string content, file.head(file.size));
        is_equal = found->second.git_id == git_blob_id(content);
      }

      if (!is_equal)
        return fail("hub_lied",
                    "{} differs on the server from what was sent: {} has {}; {} bytes with SHA-256 "
                    "{} were sent",
                    file.path, commit.substr(0, 12),
                    found == there.end() ? "no such file" : "other bytes", file.size, file.sha256);
    }
    return {};
  }

  const SubmitOptions& options_;
  const SubmissionPlan& plan_;
  const Token* const token_;
};

}  // namespace

std::unique_ptr<Submitter> hub_submitter(const SubmitOptions& options, const SubmissionPlan& plan,
                                         const Token* token) {
  return std::make_unique<HubSubmitter>(options, plan, token);
}

}  // namespace cw
