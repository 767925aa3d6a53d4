#include "submit/submit.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include <fcntl.h>
#include <sys/file.h>

#include "base/console.h"
#include "base/file.h"
#include "base/output.h"
#include "base/process.h"
#include "bind/binding.h"
#include "cli/command.h"
#include "cli/errors.h"
#include "cli/shared_options.h"
#include "cli/texts.h"
#include "submit/token.h"

namespace cw::cli {
namespace {

namespace fs = std::filesystem;

// What to do about an error, by its code. Names in braces are filled in.
struct Advice {
  std::string_view code, text;
};

constexpr std::string_view log_in =
    "Create a token with write access at {endpoint}/settings/tokens, and log in with it:\n"
    "  hf auth login\n"
    "or export it as HF_TOKEN.";
constexpr std::string_view try_later =
    "Run the same command again, perhaps later: what has arrived is not sent again, and no second "
    "pull request is opened.";

constexpr std::array advices{
    Advice{"login_ended", "Log in again:\n  hf auth login --force"},
    Advice{"no_token", log_in},
    Advice{"hub_token", log_in},
    Advice{"hub_read_only", log_in},
    Advice{"hub_forbidden",
           "Check the token's permissions ({endpoint}/settings/tokens): a fine-grained one needs "
           "to allow opening pull requests and writing to {repo}. Pull requests may also be "
           "disabled there."},
    Advice{"hub_gated", "Request access, and run this again once it is granted:\n  {page}"},
    Advice{"hub_not_found", "Check --repo{or_pr}, and that this page opens:\n  {page}"},
    Advice{"hub_moved", "Run the same command again: it starts from what is there now."},
    Advice{"connection",
           "Check the network, https_proxy and HF_ENDPOINT, then run the same command again."},
    Advice{"hub_busy", try_later},
    Advice{"hub_failed", try_later},
    Advice{"hub_lfs", try_later},
    Advice{"answer_lost", try_later},
    Advice{"hub_too_large", "Submit less at a time, with --definition-name or --op-type."},
    Advice{"hub_lied",
           "Do not merge it. Close the pull request, and tell whoever runs the server:\n  {page}"},
    Advice{"tls",
           "The server's certificate is not trusted here. Behind a proxy with its own certificate "
           "authority, name its certificates:\n"
           "  export SSL_CERT_FILE=/path/to/certificates.pem"},
    Advice{"unverified",
           "Check them first, on the GPU if there is one:\n"
           "  collect-workloads verify{trace}\n"
           "or submit them as they are, with --allow-unverified."},
    Advice{"remote_invalid", "That file is in the remote repository: tell its maintainers."},
    Advice{"not_valid", "To see everything that is wrong:\n  collect-workloads validate{trace}"},
    Advice{"simulated",
           "They are for trying the tool out. Collect with a real engine, and leave them out with "
           "--definition-name."},
    Advice{"git_identity",
           "Tell git who you are, and run the same command again:\n"
           "  git config --global user.name NAME\n"
           "  git config --global user.email ADDRESS"},
    Advice{"no_pull_request", "See which ones are open:\n  {page}/discussions"},
    Advice{"empty", "Check --trace-dir, --definition-name and --op-type."},
    Advice{"definition_unknown", "Check --trace-dir, --definition-name and --op-type."},
    Advice{"git_missing", "Install git and git-lfs:\n  apt-get install git git-lfs"},
    Advice{"git_failed",
           "The last lines are from git. This must work by hand, with your credentials:\n"
           "  git ls-remote {remote}"},
    Advice{"interrupted", "Run the same command again: what has arrived is not sent again."},
};

std::string advice(const Error& error, const SubmitOptions& options) {
  const auto found = std::ranges::find(advices, error.code, &Advice::code);
  if (found == advices.end()) return std::string(advice_for(error.code));
  return fmt::format(fmt::runtime(found->text), fmt::arg("endpoint", options.endpoint),
                     fmt::arg("repo", options.repo),
                     fmt::arg("page", options.endpoint + "/datasets/" + options.repo),
                     fmt::arg("or_pr", options.pull_request ? ", --pr" : ""),
                     fmt::arg("trace", " --trace-dir " + to_shell({{options.root.string()}})),
                     fmt::arg("remote", to_shell({{printable_remote(options.remote)}})));
}

// What could not be offered, laid out for other tools.
std::string by_hand(const SubmitFailure& failure, const SubmitOptions& options) {
  if (!failure.kept.empty() && failure.planned)
    return fmt::format(
        "The commit is in a clone of its own. To push it by hand:\n  git -C {} push origin {}\n",
        to_shell({{failure.kept.string()}}), to_shell({{failure.planned->branch}}));

  // A Hub submission: what was to be offered is written out, with the command that offers it.
  if (!failure.planned || options.is_dry_run || !options.remote.empty()) return "";
  const SubmitOutcome& planned = *failure.planned;
  if (!planned.commit.empty()) return "The pull request:\n  " + planned.url + "\n";
  const auto state = state_folder();
  if (!state) return "";

  const fs::path folder = *state / "submit" / planned.proposal.fingerprint;
  const fs::path description = folder.string() + ".md";
  if (const auto written = write_files(planned.proposal, folder); !written) return "";
  if (const auto written = write_atomically(description, planned.description, Durability::process);
      !written)
    return "";

  cw::Command command{{"hf", "upload", options.repo, folder.string(), ".", "--repo-type", "dataset",
                       "--commit-message", planned.title}};
  if (options.pull_request)
    command.arguments.insert(command.arguments.end(),
                             {"--revision", fmt::format("refs/pr/{}", *options.pull_request)});
  else
    command.arguments.emplace_back("--create-pr");
  return fmt::format("The submission is in {}, its description in {}. To send it by hand:\n  {}\n",
                     folder.string(), description.string(), to_shell(command));
}

Json to_json(const SubmitOutcome& outcome, const SubmitOptions& options) {
  // What is offered, by definition and by file.
  Json definitions = Json::object(), files = Json::array();
  for (const DefinitionComparison& compared : outcome.proposal.definitions)
    definitions[compared.name] = {{"new", compared.added.size()},
                                  {"there_already", compared.known},
                                  {"undecided", compared.undecided}};
  for (const UploadFile& file : outcome.proposal.files)
    files.push_back({{"path", file.path}, {"size", file.size}, {"sha256", file.sha256}});

  Json json = {{"compared_with", outcome.not_compared.empty() ? outcome.base : ""},
               {"not_compared", outcome.not_compared},
               {"dry_run", options.is_dry_run},
               {"new", outcome.proposal.added},
               {"was_there", outcome.was_there},
               {"title", outcome.title},
               {"description", outcome.description},
               {"commit", outcome.commit},
               {"bytes_sent", outcome.bytes_sent},
               {"definitions", std::move(definitions)},
               {"files", std::move(files)}};

  // Only what there is.
  if (outcome.pull_request) json["pull_request"] = *outcome.pull_request;
  if (!outcome.url.empty()) json["url"] = outcome.url;
  if (!outcome.would_be_refused.empty()) json["would_be_refused"] = outcome.would_be_refused;
  if (!outcome.branch.empty()) json["branch"] = outcome.branch;
  return json;
}

std::string table(const SubmitOutcome& outcome) {
  std::string text = fmt::format("{:<58}{:>8}{:>14}\n", "definition", "new", "already there");
  for (const DefinitionComparison& compared : outcome.proposal.definitions)
    text += fmt::format("{:<58}{:>8}{:>14}\n", compared.name,
                        with_separators(compared.added.size()), with_separators(compared.known));
  return text;
}

// Blobs by their folders, which are a definition's each.
std::string list_files(const std::vector<UploadFile>& files) {
  struct Blobs {
    std::size_t count = 0;
    std::uint64_t bytes = 0;
  };
  std::string text;
  std::map<std::string, Blobs> blobs;
  for (const UploadFile& file : files) {
    if (!file.path.starts_with("blob/")) {
      text += fmt::format("{:>14}  {}\n", with_separators(file.size), file.path);
      continue;
    }
    Blobs& folder = blobs[fs::path(file.path).parent_path().string()];
    ++folder.count;
    folder.bytes += file.size;
  }
  for (const auto& [folder, sum] : blobs)
    text += fmt::format("{:>14}  {}/ ({} blob{})\n", with_separators(sum.bytes), folder,
                        with_separators(sum.count), sum.count == 1 ? "" : "s");
  return text;
}

std::string describe(const SubmitOutcome& outcome, const SubmitOptions& options) {
  std::string text = table(outcome);
  if (outcome.was_there) {
    if (outcome.branch.empty() && !outcome.pull_request)
      return text + fmt::format("Nothing is new: {} already has all of it.\n", outcome.base);
    return text + fmt::format("Nothing was sent: {} already offers these workloads.\n",
                              outcome.branch.empty() ? outcome.url : "branch " + outcome.branch);
  }

  // A dry run shows the whole proposal.
  if (options.is_dry_run) {
    text += fmt::format("\n{}\n\n{}\n", outcome.title, outcome.description);
    text += fmt::format("{} files:\n", with_separators(outcome.proposal.files.size())) +
            list_files(outcome.proposal.files) + describe_others({options.root});
    if (!outcome.branch.empty()) text += "branch " + outcome.branch + "\n";
    if (!outcome.not_compared.empty())
      text +=
          wrap("Not compared with what is there, so it all counts as new: " + outcome.not_compared,
               80, "");
    if (!outcome.would_be_refused.empty())
      text += wrap("Without --dry-run this would be refused: " + outcome.would_be_refused +
                       " (see --allow-unverified).",
                   80, "");
    return text + "Nothing was sent (--dry-run).\n";
  }

  // What was sent, and where it can be looked at.
  text += fmt::format("{}\n{} files, {} bytes sent\n", outcome.title,
                      with_separators(outcome.proposal.files.size()),
                      with_separators(outcome.bytes_sent));
  return text +
         (outcome.branch.empty() ? outcome.url
                                 : fmt::format("branch {} at {}: open a pull request from it",
                                               outcome.branch, outcome.commit.substr(0, 12))) +
         "\n";
}

// "owner/name", as the Hub has them.
std::string check_repo(const std::string& text) {
  constexpr std::string_view allowed =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./";
  const std::size_t slash = text.find('/');
  const bool has_one_slash = slash != std::string::npos && slash > 0 && slash + 1 < text.size() &&
                             text.find('/', slash + 1) == std::string::npos;
  if (has_one_slash && text.find_first_not_of(allowed) == std::string::npos) return "";
  return "'" + text + "' does not name a Hub dataset: OWNER/NAME";
}

class SubmitCommand final : public Command {
 public:
  std::string name() const override { return "submit"; }
  std::string description() const override { return "Submit new workloads as a pull request"; }

  void declare(Options& options) override {
    add_dataset(options, options_.root);
    options.value("--repo", options_.repo, "Dataset on the Hugging Face Hub")
        .checked(check_repo)
        .shows_default()
        .meta("OWNER/NAME");
    options
        .value("--remote", options_.remote,
               "Push a branch workloads-YYYYMMDD-OP_TYPE to this\ngit remote instead")
        .excludes("--repo")
        .meta("URL");
    options.value("--pr", options_.pull_request, "Add to this pull request on the Hub")
        .range(1, 1'000'000'000)
        .excludes("--remote")
        .meta("N");
    add_definitions(options, options_.definition_names, options_.op_types);
    options.flag("--allow-unverified", options_.allows_unverified,
                 "Also submit what verify has not passed");
    options.flag("--dry-run", options_.is_dry_run,
                 "Show title, description and files; send nothing");
  }

  Result<std::vector<std::string>> expand(std::vector<std::string> words) override {
    forbid_core_dumps();  // there is a token in the environment
    return words;
  }

  int run(const CommonArguments& common) override {
    watch_signals();
    const auto bindings = BindingSet::load(common.bindings);
    if (!bindings) return print_error(bindings.error());
    read_environment();
    ProgressLine progress(common.is_quiet);
    options_.progress = [&](const std::string& text) { progress.update(text); };
    options_.note = [&](const std::string& text) {
      if (common.is_quiet) return;
      progress.clear();
      print(stderr, text + "\n");
    };

    // Two at once would not see each other's pull requests.
    const auto state = state_folder();
    if (!state) return print_error(state.error());
    const FileDescriptor lock = open_private(*state / "submit.lock", O_RDWR);
    if (!options_.is_dry_run && lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0)
      return print_error({"locked", "another submit is running"}, "Wait for it to end.");
    const auto outcome = submit(options_, bindings->index_checks());
    progress.clear();
    if (!outcome) return report_failure(outcome.error());

    if (!options_.is_dry_run) {  // what an earlier failure laid out
      std::error_code ignored;
      const fs::path folder = *state / "submit" / outcome->proposal.fingerprint;
      if (fs::remove_all(folder, ignored) != 0) fs::remove(folder.string() + ".md", ignored);
    }
    if (common.is_json)
      print_json(to_json(*outcome, options_));
    else
      print(stdout, describe(*outcome, options_));
    const bool has_nothing =
        outcome->was_there && !outcome->pull_request && outcome->branch.empty();
    return has_nothing ? exit_no_workloads : exit_success;
  }

 private:
  void read_environment() {
    const char* const endpoint = std::getenv("HF_ENDPOINT");
    if (endpoint != nullptr && *endpoint != '\0') options_.endpoint = endpoint;
    while (options_.endpoint.ends_with('/')) options_.endpoint.pop_back();
    options_.allows_simulated = std::getenv("COLLECT_WORKLOADS_TEST_SUBMIT_SIMULATED") != nullptr;
  }

  int report_failure(const SubmitFailure& failure) const {
    std::string text = advice(failure.error, options_);
    if (const std::string more = by_hand(failure, options_); !more.empty()) text += "\n" + more;
    const int status = print_error(failure.error, text);
    if (failure.error.code == "empty") return exit_no_workloads;
    return stop_signal() != 0 ? 128 + stop_signal() : status;
  }

  SubmitOptions options_;
};

}  // namespace

std::unique_ptr<Command> make_submit() {
  return std::make_unique<SubmitCommand>();
}

}  // namespace cw::cli
