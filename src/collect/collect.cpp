#include "collect/collect.h"

#include <algorithm>

#include <unistd.h>

#include "base/console.h"
#include "base/redact.h"
#include "base/time.h"
#include "capture/environment.h"
#include "capture/recorder/lost.h"
#include "collect/checkout.h"
#include "collect/engine_client.h"
#include "dataset/publication.h"
#include "engine/doctor.h"
#include "sanitize/section.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

// The last line of a traceback says what went wrong.
std::string last_line_of(const std::string& output) {
  const std::string text = chomp(output);
  return text.substr(text.rfind('\n') + 1);
}

// The key that the engine is started with is the one it expects.
std::string api_key_of(const std::vector<std::string>& words) {
  constexpr std::string_view flag = "--api-key";
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == flag && i + 1 < words.size() && !words[i + 1].starts_with('-'))
      return words[i + 1];
    if (words[i].starts_with(std::string(flag) + "=")) return words[i].substr(flag.size() + 1);
  }
  return {};
}

class Collector {
 public:
  Collector(const CollectRequest& request, CollectObserver& observer)
      : request_(request), observer_(observer) {}

  Result<CollectOutcome> run() {
    if (request_.uses_engine_client && !request_.traffic.sweep.empty())
      return fail("sweep_unsupported",
                  "engines' clients have no --sweep; leave out --via, or give --concurrency");
    CW_TRY(plan_, plan_capture(request_.capture));
    if (request_.uses_engine_client && client() == nullptr)
      return fail("client_unknown", "the recipe of {} names no client of its own: leave out --via",
                  request_.capture.engine.engine);
    observer_.planned(plan_);
    if (plan_.engine.runs.empty())
      return fail("unreachable", "no engine run reaches any of the definitions asked for");

    // A dry run says what it lacks at the end.
    const auto prompts = open_prompts();
    if (!prompts && !request_.is_dry_run) return tl::unexpected(prompts.error());
    CW_CHECK(prepare_engine());
    if (plan_.recipe == nullptr || !version_.empty()) warn();
    observer_.prepared(plan_);
    if (request_.uses_engine_client) CW_CHECK(show_client());
    if (request_.is_dry_run) {
      const bool lacks_prompts = !prompts && prompts.error().code == "no_prompts_given";
      if (lacks_prompts)  // a plan needs none
        observer_.note("it would not start yet: " + prompts.error().message);
      else if (!prompts)
        outcome_.failure = prompts.error();
      return std::move(outcome_);
    }

    CW_CHECK(take_folders());
    if (outcome_.was_complete) return std::move(outcome_);
    CW_CHECK(run_all());
    work_dir_->finish();
    outcome_.is_interrupted = stop_signal() != 0;
    return std::move(outcome_);
  }

  /// The command that resumes it; empty if nothing was begun.
  std::string resume() const { return work_dir_ ? resume_command(work_dir_->path()) : ""; }

 private:
  Result<std::unique_ptr<PromptSource>> open_prompts() const {
    TrafficRequest traffic = request_.traffic;
    if (plan_.is_simulated() && traffic.prompts.empty()) traffic.uses_random_prompts = true;
    return open_prompt_source(traffic, plan_.is_simulated() ? "" : plan_.python);
  }

  // What would send the requests of the first run, before an engine is started for it.
  Result<void> show_client() {
    const auto command =
        client_command(*client(), target_of(plan_.engine.runs[0], 0), request_.traffic);
    if (!command && !request_.is_dry_run) return tl::unexpected(command.error());
    observer_.note(command ? "requests will be sent by\n  " + printable(*command)
                           : "it would not start yet: " + command.error().message);
    return {};
  }

  ClientTarget target_of(const EngineRun& run, int port) const {
    return {plan_.python, plan_.host, port, run.model_path};
  }

  // Says what of the installation will not be recorded. What cannot be found out is no obstacle.
  void warn() {
    const std::string python =
        plan_.recipe == nullptr ? python_of(plan_.launch.words) : plan_.python;
    const auto rules = plan_.method->rules(plan_.capture);
    for (const std::string& doubt : doubts(python, rules.value_or(""), plan_.launch.environment))
      observer_.note(doubt);
  }

  // Brings a checkout up to date, asks the engine for its version and flags, and fits the runs'
  // flags to them.
  Result<void> prepare_engine() {
    if (plan_.recipe == nullptr) return {};
    const EngineChoice& engine = request_.capture.engine;
    if (const auto checkout = chosen_checkout())
      CW_CHECK(prepare_checkout(
          {*checkout, "collect_workload_for_" + plan_.chosen[0]->name, plan_.python,
           engine.updates_checkout, request_.is_dry_run},
          [this](const std::string& line) { observer_.command(line); },
          [this](const std::string& reason) { observer_.note(reason); }));
    CW_CHECK(find_version());

    const std::set<std::string> known = known_flags();
    for (EngineRun& run : plan_.engine.runs) {
      FittedFlags fitted = fit_flags(run.flags, known, plan_.given_flags);
      for (const std::string& note : fitted.notes) observer_.note(note);
      auto& words = run.command.arguments;
      words.insert(words.end(), fitted.words.begin(), fitted.words.end());
      words.insert(words.end(), plan_.given_flags.begin(), plan_.given_flags.end());
    }
    return {};
  }

  Result<void> find_version() {
    const std::vector<std::string>& command = plan_.recipe->version;
    const std::string& engine = request_.capture.engine.engine;
    if (command.empty()) return {};
    const auto version =
        cw::run({fill_in(command, {{"python", plan_.python}})}, std::chrono::seconds(60));
    if (version) {
      version_ = chomp(*version);
      observer_.done(version_ + " in " + plan_.python);
      return {};
    }

    if (!request_.is_dry_run)
      return fail(
          "engine_missing",
          "{} is not installed for {}: {}\nInstall it there, choose another environment with "
          "--python, --venv or --conda-env, or try --engine simulated",
          engine, plan_.python, last_line_of(version.error().message));
    observer_.note(fmt::format("{} is not installed for {}: this is what would run where it is",
                               engine, plan_.python));
    return {};
  }

  // Flags of the installed engine; empty if it does not list them.
  std::set<std::string> known_flags() {
    const std::vector<std::string>& command = plan_.recipe->help;
    if (command.empty()) return {};
    const auto help =
        cw::run({fill_in(command, {{"python", plan_.python}})}, std::chrono::seconds(300));
    if (help) return flags_in_help(*help);
    observer_.note("its flags are unknown, because --help failed; the recipe's are used unchecked");
    return {};
  }

  // A checkout is touched only on request, or after the user agrees.
  std::optional<fs::path> chosen_checkout() {
    const std::string& usual = plan_.recipe->checkout;
    if (usual.empty()) return {};
    if (const fs::path& given = request_.capture.engine.sglang_path; !given.empty()) return given;
    std::error_code error;
    if (!fs::exists(usual, error)) return {};
    const bool can_ask = !request_.is_dry_run && request_.may_ask;
    if (can_ask &&
        observer_.confirms(fmt::format("Update {} and install it into {}?", usual, plan_.python)))
      return usual;
    observer_.note(
        fmt::format("{0} is left alone: the installed SGLang is used. To have the checkout updated "
                    "and installed, give\n  --sglang-path {0}",
                    usual));
    return {};
  }

  Result<void> take_folders() {
    CW_TRY(const fs::path state, state_folder());
    pid_folder_ = state / "engines";
    CW_CHECK(ensure_private_directory(pid_folder_));
    const fs::path path =
        request_.work_dir.empty()
            ? state / "runs" / fmt::format("{}-{}", timestamp(), static_cast<long>(::getpid()))
            : fs::absolute(request_.work_dir);
    WorkDir folder(path, plan_.engine.runs.size());
    if (request_.resumes && folder.is_finished()) {
      observer_.done(fmt::format("the run in {} was complete", path.string()));
      outcome_.was_complete = true;
      return {};
    }

    for (const std::string& line : end_orphans(pid_folder_, resume_command(path)))
      observer_.note(line);
    CW_CHECK(Publication::check(request_.capture.trace_dir));
    CW_CHECK(folder.take(request_.words,
                         request_.resumes ? WorkDir::Start::resumed : WorkDir::Start::fresh));
    work_dir_.emplace(std::move(folder));
    outcome_.resume = resume();
    return {};
  }

  // One after another, until one fails or the user interrupts.
  Result<void> run_all() {
    const std::size_t count = plan_.engine.runs.size();
    for (std::size_t i = 0; i < count && stop_signal() == 0; ++i) {
      const auto position = work_dir_->position(i);
      if (request_.resumes && position && position->is_complete()) {
        observer_.done(fmt::format("run {} of {} was complete", i + 1, count));
        outcome_.has_complete_runs = true;
        continue;
      }

      auto made = run_one(i);
      if (!made && made.error().code == "interrupted") return {};
      if (!made) return tl::unexpected(made.error());
      outcome_.sections.push_back(std::move(made->section));
      for (const DefinitionOutcome& definition : made->sanitized.definitions)
        outcome_.kept += definition.kept.size();
      if (made->failure) {
        outcome_.failure = std::move(made->failure);
        return {};
      }
    }
    return {};
  }

  Result<EngineRunOutcome> run_one(std::size_t index) {
    const EngineRun& run = plan_.engine.runs[index];
    CW_CHECK(ensure_private_directory(work_dir_->run(index)));
    const int wanted = plan_.launch.port != 0 ? plan_.launch.port : request_.capture.port;
    CW_TRY(const int port, free_port(plan_.host, wanted));
    EngineRunOptions options = options_for(run, index, port);
    if (request_.uses_engine_client) {
      CW_TRY(options.traffic_command,
             client_command(*client(), target_of(run, port), request_.traffic));
    }
    CW_TRY(auto variables, plan_.environment(run, options.view.dumps));
    add_capture_variables(options.engine.command, std::move(variables));
    options.sanitize.run = record_of(run, options);  // of everything set above

    // Calls lost to a kill are counted in memory that outlives the engine.
    recording::CallCounts counts;
    options.engine.command.environment.push_back(counts.environment());
    options.engine_ended = [&] {
      const auto lost = counts.settle(options.view.dumps, std::chrono::seconds(10));
      if (const std::string text = describe(lost); !text.empty()) observer_.note(text);
    };
    options.view.command = options.engine.command;
    observer_.starting(options.view);
    CW_TRY(auto outcome, run_engine(options, plan_.dataset, plan_.bindings, observer_));
    if (outcome.sanitized.survey.processes.empty())
      outcome.why_nothing = plan_.method->why_nothing(counts.reach());
    observer_.ended(options.view, outcome);
    return outcome;
  }

  // That of the engine named by --engine, whichever command starts it; null: it has none.
  const ClientRecipe* client() const {
    const auto recipe = plan_.recipes.engines.find(request_.capture.engine.engine);
    return recipe != plan_.recipes.engines.end() && recipe->second.client ? &*recipe->second.client
                                                                          : nullptr;
  }

  EngineRunOptions options_for(const EngineRun& run, std::size_t index, int port) const {
    EngineRunOptions options;
    const fs::path folder = work_dir_->run(index);
    options.view = {.index = index,
                    .count = plan_.engine.runs.size(),
                    .run = &run,
                    .method = plan_.method,
                    .command = {},
                    .url = url_of(plan_.host, port),
                    .log = folder / "engine.log",
                    .dumps = dump_folder(index),
                    .keeps_dumps = request_.keeps_dumps,
                    .disk_budget = request_.disk_budget};
    options.method = plan_.method;
    options.checkpoint = work_dir_->checkpoint(index);
    options.resumes = request_.resumes;
    options.until_saturated = request_.until_saturated;
    options.hang_limit = std::chrono::seconds(request_.hang_limit);
    options.information = plan_.recipe != nullptr ? plan_.recipe->information : "/server_info";

    // The engine. An earlier run's log would be blamed for this one's death.
    options.engine.command = run.command;
    options.engine.command.arguments =
        fill_in(run.command.arguments, {{"host", plan_.host}, {"port", std::to_string(port)}});
    options.engine.log = options.view.log;
    std::error_code ignored;
    fs::remove(options.engine.log, ignored);
    options.engine.url = options.view.url;
    options.engine.start_limit = std::chrono::seconds(request_.start_limit);
    options.engine.pid_folder = pid_folder_;
    options.engine.dumps = options.view.dumps;
    options.engine.resume = resume();

    // Its traffic.
    options.prompts = [this] { return open_prompts(); };
    options.traffic = traffic_for(run, options.engine.url);
    options.engine.headers = options.traffic.headers;
    options.endpoint = request_.traffic.endpoint;
    if (!options.endpoint && plan_.recipe != nullptr) options.endpoint = plan_.recipe->endpoint;

    // Its workloads.
    options.sanitize = request_.sanitize;
    options.sanitize.definition_names.clear();
    options.sanitize.op_types.clear();
    for (const Definition* definition : run.definitions)
      options.sanitize.definition_names.push_back(definition->name);
    return options;
  }

  TrafficOptions traffic_for(const EngineRun& run, const std::string& url) const {
    TrafficOptions traffic = traffic_options(request_.traffic);
    traffic.url = url;
    const std::string key = api_key_of(run.command.arguments);
    if (request_.traffic.api_key.empty() && !key.empty())
      traffic.headers.emplace_back("Authorization", "Bearer " + key);

    // Greedy batches call no sampling kernel.
    const bool wants_sampling = std::ranges::any_of(
        run.definitions, [](const Definition* d) { return d->op_type == "sampling"; });
    if (wants_sampling && !traffic.top_k && !traffic.top_p) {
      traffic.top_k = 50;
      traffic.top_p = 0.9;
      if (!traffic.temperature) traffic.temperature = 0.8;
    }
    return traffic;
  }

  // A resumed run whose dumps are kept gets a new folder next to them; recordings are all read
  // again together.
  fs::path dump_folder(std::size_t index) const {
    const fs::path first = request_.dump_dir.empty()
                               ? work_dir_->run(index) / "dumps"
                               : request_.dump_dir / fmt::format("run{}", index + 1);
    const bool is_beside = !plan_.method->is_lasting() && request_.resumes && request_.keeps_dumps;
    return is_beside ? first_unused(first) : first;
  }

  RunRecord record_of(const EngineRun& run, const EngineRunOptions& options) const {
    const bool has_random_prompts = request_.traffic.uses_random_prompts ||
                                    (plan_.is_simulated() && request_.traffic.prompts.empty());
    RunRecord record;

    // What ran.
    record.engine = plan_.recipe != nullptr ? request_.capture.engine.engine : "command";
    record.is_simulated = plan_.is_simulated();
    record.version = version_;
    record.model = without_local_folders(run.model_path);
    record.tensor_parallel = run.tensor_parallel;
    record.profile = run.profile;
    for (const std::string& word : run.command.arguments)
      record.command.push_back(without_local_folders(word));
    for (const auto& [name, value] : run.command.environment)
      record.environment.emplace_back(name, without_local_folders(value));

    // How it was captured.
    record.capture = plan_.method->name();
    record.started = timestamp();

    // What was sent to it.
    record.prompts = has_random_prompts ? "random" : request_.traffic.prompts.filename().string();
    for (const Schedule& schedule : options.traffic.schedules)
      record.schedules.push_back({schedule.concurrency, schedule.rate, schedule.follows_arrivals,
                                  schedule.requests, std::nullopt});

    record.disk_budget = request_.disk_budget;
    record.capture_settings = plan_.method->provenance(plan_.needs_of(run), plan_.capture);
    return record;
  }

  const CollectRequest& request_;
  CollectObserver& observer_;
  CapturePlan plan_;
  std::string version_;  ///< the engine's
  fs::path pid_folder_;
  std::optional<WorkDir> work_dir_;
  CollectOutcome outcome_;
};

}  // namespace

tl::expected<CollectOutcome, CollectFailure> collect(const CollectRequest& request,
                                                     CollectObserver& observer) {
  Collector collector(request, observer);
  auto outcome = collector.run();
  if (outcome) return std::move(*outcome);
  return tl::unexpected(CollectFailure{outcome.error(), collector.resume()});
}

}  // namespace cw
