#include "verify/verify.h"

#include <algorithm>
#include <set>
#include <thread>

#include <fcntl.h>

#include "base/file.h"
#include "base/output.h"
#include "base/process.h"
#include "dataset/publication.h"
#include "verify/built_in_script.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t max_crashes = 3;  // in a row, of one definition's workloads
constexpr std::size_t max_replay_failures = 20;
constexpr std::chrono::hours replay_limit{24};
constexpr std::chrono::seconds lock_limit{60};
constexpr int start_limit = 300;  // seconds

struct Item {
  std::string definition, id;
  auto operator<=>(const Item&) const = default;
};

class Verifier {
 public:
  explicit Verifier(const VerifyOptions& options) : options_(options) {}

  Result<VerifyOutcome> run() {
    CW_TRY(dataset_, Dataset::open(options_.root));
    CW_CHECK(dataset_.check_places());
    CW_TRY(folder_, TemporaryDirectory::create());
    CW_CHECK(write_atomically(script(), built_in_verify_script(), Durability::process));
    std::error_code ignored;
    fs::remove(options_.log, ignored);
    CW_CHECK(choose());
    const auto ran = run_workloads();
    if (!ran && ran.error().code != "interrupted") return tl::unexpected(ran.error());
    for (const Item& item : pending_)
      result_.definitions.erase(item.definition);  // of an interrupted run
    CW_CHECK(write());
    if (!ran) return tl::unexpected(ran.error());
    if (!options_.dumps.empty()) {
      CW_TRY(result_.replay, replay());
      CW_CHECK(write());
    }
    return VerifyOutcome{std::move(result_), std::move(chosen_)};
  }

 private:
  fs::path script() const { return folder_->path() / "verify.py"; }
  fs::path results() const { return folder_->path() / "results.jsonl"; }

  // Another verify may have written about other definitions meanwhile; what this one has not
  // finished stays as it was.
  Result<void> write() {
    CW_TRY(Publication publication, Publication::begin(options_.root, lock_limit));
    CW_TRY(Verification stored, read_verification(options_.root));
    for (const std::string& name : chosen_)
      if (const auto found = result_.definitions.find(name); found != result_.definitions.end())
        stored.definitions.insert_or_assign(name, found->second);
    stored.environment = result_.environment;
    if (!options_.dumps.empty()) stored.replay = result_.replay;  // empty until it has run
    result_ = std::move(stored);
    return publication.write(verification_file, dump_indented(to_json(result_)) + "\n");
  }

  Result<void> choose() {
    CW_TRY(const auto chosen,
           choose_definitions(dataset_, options_.definition_names, options_.op_types));
    for (const Definition* item : chosen) {
      const Definition& definition = *item;
      CW_TRY(const auto stored, read_stored_workloads(dataset_.root, definition));
      if (stored.empty()) continue;
      chosen_.insert(definition.name);
      DefinitionVerification& verification = result_.definitions[definition.name] = {};
      CW_TRY(verification.fingerprint, fingerprint(dataset_, definition));
      std::set<std::string> ids;
      for (const StoredWorkload& workload : stored)
        if (ids.insert(workload.id).second) pending_.insert({definition.name, workload.id});
      verification.workloads = ids.size();
    }
    all_ = pending_.size();
    if (pending_.empty())
      return fail("no_workloads", "{}: contains no workloads to verify", options_.root.string());
    return {};
  }

  Result<void> run_workloads() {
    std::size_t crashes = 0;
    while (!pending_.empty()) {
      const std::size_t before = pending_.size();
      begun_.reset();
      CW_TRY(const std::string end, run_process());
      if (begun_) {
        const Item item = *begun_;
        finish(item, VerificationFailure{item.id, stage_of_crash(), "the process ended: " + end});
        crashes = crashes > 0 && crashed_ == item.definition ? crashes + 1 : 1;
        crashed_ = item.definition;
        if (crashes >= max_crashes) give_up(crashed_);
      } else if (pending_.size() == before) {
        return fail("python_failed", "{} exited before it began ({}); its output is in {}",
                    options_.python, end, options_.log.string());
      }
    }
    return {};
  }

  std::string stage_of_crash() const { return options_.runs_reference ? "execute" : "load"; }

  void give_up(const std::string& definition) {
    for (const Item& item : std::set<Item>(pending_))
      if (item.definition == definition)
        finish(item, VerificationFailure{
                         item.id, "load",
                         fmt::format("not tried: {} others crashed the process", max_crashes)});
  }

  // One process for everything pending. Returns how it ended.
  Result<std::string> run_process() {
    Json items = Json::array();
    for (const Item& item : pending_)
      items.push_back({{"definition", item.definition}, {"uuid", item.id}});
    const Json job = {{"trace_dir", fs::absolute(options_.root).string()},
                      {"device", options_.device},
                      {"reference", options_.runs_reference},
                      {"results", results().string()},
                      {"items", std::move(items)}};
    const fs::path path = folder_->path() / "job.json";

    CW_CHECK(write_atomically(path, dump(job), Durability::process));
    std::error_code ignored;
    fs::remove(results(), ignored);
    CW_TRY(ProcessGroup process,
           ProcessGroup::start({{options_.python, script().string(), path.string()},
                                {{"PYTHONUNBUFFERED", "1"}, {"FLASHINFER_LOGLEVEL", "0"}}},
                               options_.log));

    std::uint64_t position = 0;
    auto last = std::chrono::steady_clock::now();
    for (;;) {
      const auto status = process.status();
      CW_TRY(const bool has_more, read_results(position));
      if (has_more) last = std::chrono::steady_clock::now();

      if (status) return to_string(*status);
      if (stop_signal() != 0) {
        process.stop(std::chrono::seconds(1));
        return fail("interrupted", "interrupted; definitions that were finished are in {}",
                    verification_file);
      }
      // Before the first workload Python imports PyTorch.
      const std::chrono::seconds limit(begun_ ? options_.limit_seconds
                                              : std::max(options_.limit_seconds, start_limit));
      if (std::chrono::steady_clock::now() - last > limit)
        return fmt::format("no output for {} s", limit.count());
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  // Reads the lines appended to the results since.
  Result<bool> read_results(std::uint64_t& position) {
    const auto file = open_for_reading(AT_FDCWD, results().string());
    if (!file) return false;
    CW_TRY(const std::uint64_t size, file_size(*file, results().string()));
    if (size == position) return false;
    if (size < position) return fail("python_failed", "{} became shorter", results().string());
    std::string text(size - position, '\0');
    CW_CHECK(read_exactly(*file, position, text.size(), text.data(), results().string()));
    text.resize(text.rfind('\n') + 1);  // npos + 1 is 0
    position += text.size();
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = text.find('\n', at);
      if (const auto line = parse_json(std::string_view(text).substr(at, end - at)))
        CW_CHECK(take(*line));
      at = end + 1;
    }
    return true;
  }

  Result<void> take(const Json& line) {
    const std::string event = string_member(line, "event");
    const Item item{string_member(line, "definition"), string_member(line, "uuid")};

    if (event == "environment") {
      result_.environment = line;
      result_.environment.erase("event");
    } else if (event == "missing") {
      return fail("python_failed", "{}: {}", options_.python, string_member(line, "message"));
    } else if (event == "failed") {
      return fail("python_failed", "{}", string_member(line, "message"));
    } else if (event == "begin") {
      if (!pending_.contains(item)) return {};
      begun_ = item;
      options_.progress(all_ - pending_.size(), all_, item.definition);
    } else if (event == "passed" || event == "failed_workload") {
      if (!pending_.contains(item)) return {};
      DefinitionVerification& verification = result_.definitions[item.definition];
      verification.executed += bool_member(line, "executed");
      const std::string reference = string_member(line, "reference");
      if (reference == "ran") verification.reference = Reference::ran;
      if (reference == "absent" && verification.reference == Reference::not_run)
        verification.reference = Reference::absent;
      verification.device = string_member(result_.environment, "device");
      if (event == "passed")
        finish(item, std::nullopt);
      else
        finish(item, VerificationFailure{item.id, string_member(line, "stage"),
                                         string_member(line, "message")});
    }
    return {};
  }

  void finish(const Item& item, std::optional<VerificationFailure> failure) {
    if (pending_.erase(item) == 0) return;
    begun_.reset();
    DefinitionVerification& verification = result_.definitions[item.definition];
    if (!failure || failure->stage == "execute") ++verification.loaded;
    if (failure) verification.failures.push_back(std::move(*failure));
  }

  Result<ReplayVerification> replay() {
    ReplayVerification all;
    const std::string python =
        options_.engine_python.empty() ? options_.python : options_.engine_python;

    for (const fs::path& dumps : options_.dumps) {
      options_.progress(all_, all_, "replaying " + dumps.string());
      const auto output =
          cw::run({{python, "-m", "flashinfer", "replay", "--dir=" + dumps.string()},
                   {{"PYTHONUTF8", "1"}, {"FLASHINFER_LOGLEVEL", "0"}, {"NO_COLOR", "1"}}},
                  replay_limit);
      if (!output)
        return fail(output.error().code == "interrupted" ? "interrupted" : "replay_failed", "{}",
                    output.error().message);

      const auto has_outputs = [&dumps](const std::string& name) {
        std::error_code ignored;
        return fs::exists(dumps / name / "outputs.safetensors", ignored) ||
               fs::exists(dumps / name / "outputs.pt", ignored);
      };
      // Once for the names, and again with the reasons.
      Json names = Json::array(), reasons = Json::object();
      CW_CHECK(parse_replay(*output, has_outputs, [&names](const std::string& name) {
        names.push_back(name);
        return std::string();
      }));
      if (!names.empty()) {
        CW_TRY(reasons, reasons_of(dumps, std::move(names)));
      }

      CW_TRY(const ReplayVerification one,
             parse_replay(*output, has_outputs, [&reasons](const std::string& name) {
               return string_member(reasons, name.c_str());
             }));

      all.dumps += one.dumps;
      all.passed += one.passed;
      all.compared += one.compared;
      all.failed += one.failed;
      all.skipped += one.skipped;
      all.undecided += one.undecided;
      for (const auto& [reason, count] : one.reasons)
        if (all.reasons.size() < max_replay_failures || all.reasons.contains(reason))
          all.reasons[reason] += count;
      for (const std::string& failure : one.failures)
        if (all.failures.size() < max_replay_failures) all.failures.push_back(failure);
    }
    return all;
  }

  // {NAME: reason}
  Result<Json> reasons_of(const fs::path& dumps, Json names) {
    const fs::path path = folder_->path() / "replayed.json";
    const Json job = {{"dumps", fs::absolute(dumps).string()}, {"calls", std::move(names)}};
    CW_CHECK(write_atomically(path, dump(job), Durability::process));
    const auto output = cw::run(
        {{options_.python, script().string(), path.string()}, {{"PYTHONUTF8", "1"}}}, replay_limit);
    if (!output) return fail("replay_failed", "{}", output.error().message);
    auto reasons = parse_json(*output);
    if (!reasons || !reasons->is_object())
      return fail("replay_failed", "{} printed no reasons", options_.python);
    return std::move(*reasons);
  }

  const VerifyOptions& options_;
  Dataset dataset_;
  Verification result_;
  std::optional<TemporaryDirectory> folder_;
  std::set<std::string> chosen_;
  std::set<Item> pending_;
  std::size_t all_ = 0;
  std::optional<Item> begun_;
  std::string crashed_;
};

}  // namespace

Result<ReplayVerification> parse_replay(
    std::string_view output, const std::function<bool(const std::string&)>& has_outputs,
    const std::function<std::string(const std::string&)>& undecided) {
  // [7] rmsnorm (20261123_…_call0001): ✅ Passed
  // [8] Wrapper.run (…): ⚠️  Mismatch        [9] …: ❌ Error: …
  struct ReplayedCall {
    std::string name, result;
  };
  std::vector<ReplayedCall> calls;
  std::set<std::string> constructed;  // classes whose constructor was run again
  std::string last;
  bool has_summary = false;

  // Each line about a call, and whether there is a summary at the end.
  for (std::size_t at = 0; at < output.size();) {
    const std::size_t end = std::min(output.find('\n', at), output.size());
    const std::string_view line = output.substr(at, end - at);
    at = end + 1;
    if (!line.empty()) last = line;

    has_summary |= line.starts_with("Summary: ");
    const std::size_t close = line.find("] "), colon = line.find("): ");
    if (!line.starts_with('[') || close == std::string_view::npos ||
        colon == std::string_view::npos || colon < close)
      continue;

    ReplayedCall item{std::string(line.substr(close + 2, colon - close - 1)),
                      std::string(line.substr(colon + 3))};
    if (const std::size_t init = item.name.find(".__init__ ");
        init != std::string::npos && item.result.ends_with("Passed"))
      constructed.insert(item.name.substr(0, init));
    calls.push_back(std::move(item));
  }
  if (!has_summary)
    return fail("replay_failed", "flashinfer replay did not finish: {}",
                last.empty() ? "it printed nothing" : last);

  ReplayVerification result;
  for (const ReplayedCall& call : calls) {
    ++result.dumps;
    const std::size_t dot = call.name.substr(0, call.name.find(' ')).rfind('.');

    // Methods of an object whose constructor was not dumped cannot be run again.
    const bool is_method = dot != std::string::npos && dot > 0;
    const std::size_t open = call.name.find(" (");
    const std::string folder = open == std::string::npos
                                   ? std::string()
                                   : call.name.substr(open + 2, call.name.size() - open - 3);
    if (call.result.ends_with("Passed")) {
      ++result.passed;
      result.compared += has_outputs(folder);
    } else if (is_method && !constructed.contains(call.name.substr(0, dot))) {
      ++result.skipped;
    } else if (const std::string reason = undecided(folder); !reason.empty()) {
      ++result.undecided;
      ++result.reasons[reason];
    } else {
      ++result.failed;
      if (result.failures.size() < max_replay_failures)
        result.failures.push_back(call.name + ": " + call.result);
    }
  }
  return result;
}

Result<VerifyOutcome> verify(const VerifyOptions& options) {
  return Verifier(options).run();
}

}  // namespace cw
