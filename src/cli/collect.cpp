#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/console.h"
#include "base/file.h"
#include "base/redact.h"
#include "cli/collect_console.h"
#include "cli/collect_environment.h"
#include "collect/checkout.h"
#include "dataset/publication.h"
#include "record/kit.h"
#include "record/lost.h"
#include "sanitize/section.h"

namespace cw::cli {
namespace {

std::string self_path() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

constexpr const char* run_file = "collect.json";
constexpr const char* lock_file = "lock";

// A command line within a word, as --launch-command has it, by its own words.
std::string redact_line(const std::string& word) {
  const std::size_t sign = word.starts_with("--") ? word.find('=') : std::string::npos;
  const std::size_t begin = sign == std::string::npos ? 0 : sign + 1;
  const auto line = shell_words(std::string_view(word).substr(begin));
  const auto clean = redact(line);
  return line.size() < 2 || clean == line ? word : word.substr(0, begin) + to_shell({clean, {}});
}

Result<void> write_words(const std::filesystem::path& work_dir, std::vector<std::string> words) {
  std::error_code error;
  // Secrets are not kept, not even here: whoever resumes gives them again.
  for (std::string& word : words) word = redact_line(word);
  const Json json = {{"words", redact(words)},
                     {"directory", std::filesystem::current_path(error).string()}};
  return write_atomically(work_dir / run_file, dump(json) + "\n", Durability::power_failure,
                          Access::owner);
}

std::filesystem::path checkpoint_of(const std::filesystem::path& run) {
  return run / "found";
}

bool is_finished(const std::filesystem::path& work_dir) {
  const auto text = read_file(AT_FDCWD, (work_dir / run_file).string(), 1 << 20);
  const auto json = text ? parse_json(*text) : std::nullopt;
  return json && json->is_object() && json->contains("finished");
}

std::string resume_command(const std::filesystem::path& work_dir) {
  return to_shell({{"collect-workloads", "collect", "--resume", work_dir.string()}});
}

class Collect {
 public:
  Collect(const CollectArguments& arguments, const CommonArguments& common)
      : arguments_(arguments), common_(common), console_(common) {}

  Result<void> prepare() {
    CW_TRY(bindings_, load_bindings(common_));
    CW_TRY(recipes_, load_recipes(arguments_.engine.recipes));
    CW_TRY(dataset_, Dataset::open(arguments_.trace_dir));
    if (arguments_.options.definition_names.empty() && arguments_.options.op_types.empty() &&
        !arguments_.takes_all)
      return fail("nothing_asked",
                  "name what to collect: --definition-name NAME, --op-type TYPE, or --all");
    if (arguments_.uses_bench_serving && !arguments_.traffic.sweep.empty())
      return fail("sweep_unsupported",
                  "bench_serving has no --sweep; leave out --via, or give --concurrency");
    CW_TRY(chosen_, choose_definitions(dataset_, arguments_.options.definition_names,
                                       arguments_.options.op_types));
    CW_TRY(python_, find_python(arguments_.engine));
    EnginePlanOptions options;
    options.engine = arguments_.engine.engine;
    options.capture = capture();
    if (is_simulated() && capture() == CaptureKind::recording)
      return fail("capture_unsupported",
                  "the simulated engine has no Python to record; it writes level-10 dumps: leave "
                  "out --capture");
    options.python = python_;
    options.self = self_path();
    options.model_name = arguments_.engine.model_name;
    options.tensor_parallel = arguments_.engine.tensor_parallel;
    if (!arguments_.engine.launch_command.empty()) {
      CW_TRY(launch_, parse_launch_command(arguments_.engine.launch_command));
      const int wanted = arguments_.address.port;
      if (launch_.port != 0 && wanted != 0 && wanted != launch_.port)
        return fail(
            "port_unknown",
            "the launch command listens on port {}, and --port says {}: write {{port}} in it",
            launch_.port, wanted);
      options.launch_command = launch_.words;
      options.launch_environment = launch_.environment;
    }
    if (options.engine != "simulated" && options.launch_command.empty())
      options.compute_capability = compute_capability();
    given_flags_ = shell_words(arguments_.engine.engine_flags);
    CW_TRY(plan_, plan_runs(chosen_, bindings_, recipes_, options));
    return {};
  }

  bool is_simulated() const {
    return arguments_.engine.engine == "simulated" && arguments_.engine.launch_command.empty();
  }
  CaptureKind capture() const {
    return arguments_.capture.value_or(is_simulated() ? CaptureKind::level10
                                                      : CaptureKind::recording);
  }

  /// What makes the engine of a run write its calls into `folder`.
  Result<std::vector<std::pair<std::string, std::string>>> capture_environment(
      const EngineRun& run, const std::filesystem::path& folder) const {
    if (capture() == CaptureKind::level10) return filter(run).environment(folder);
    RecorderArguments recorder = arguments_.recorder;
    // What is collected is for a dataset, and top_p and routing_logits are a part of it.
    recorder.keeps_values = true;
    recorder.only = functions_of(run.bindings);
    return recorder_variables(recorder, bindings_, folder);
  }

  CaptureFilter filter(const EngineRun& run) const {
    CaptureFilter filter = filter_for(run.bindings);
    if (!arguments_.include.empty()) filter.include = arguments_.include;
    filter.exclude.insert(filter.exclude.end(), arguments_.exclude.begin(),
                          arguments_.exclude.end());
    filter.max_count = arguments_.max_count.value_or(filter.max_count);
    filter.max_size_gb = arguments_.max_size_gb.value_or(filter.max_size_gb);
    return filter;
  }

  const EnginePlan& plan() const { return plan_; }

  int execute() {
    console_.title("Plan");
    std::map<std::pair<std::string, std::string>, std::vector<std::string>> unreachable;
    for (const Unreachable& item : plan_.unreachable)
      unreachable[{item.why, item.reach}].push_back(item.definition->name);
    for (const auto& [reason, names] : unreachable)
      console_.note(fmt::format("{} cannot be reached: {}{}", fmt::join(names, ", "), reason.first,
                                reason.second.empty() ? "" : ". What would: " + reason.second));
    if (plan_.runs.empty())
      return report({"unreachable", "no engine run reaches any of the definitions asked for"},
                    "The lines above say why, and what would.");
    const auto prompts = open_prompts();
    if (!prompts && !arguments_.is_dry_run) return report(prompts.error());
    if (const auto ready = prepare_engine(); !ready) return report(ready.error());
    for (std::size_t i = 0; i < plan_.runs.size(); ++i) show_run(i);
    if (arguments_.is_dry_run) {
      console_.text("\nNothing was started (--dry-run).\n");
      if (common_.is_json) print_json(plan_json());
      return prompts ? exit_success : report(prompts.error());
    }
    const auto state = state_folder();
    if (!state) return report(state.error());
    ledger_ = *state / "engines";
    if (const auto made = ensure_private_directory(ledger_); !made) return report(made.error());
    work_ = arguments_.work_dir.empty()
                ? *state / "runs" / fmt::format("{}-{}", timestamp(), static_cast<long>(::getpid()))
                : std::filesystem::absolute(arguments_.work_dir);
    if (arguments_.resumes && is_finished(work_)) {
      console_.done(fmt::format("the run in {} was complete", work_.string()));
      if (common_.is_json) print_json(Json::array());
      return exit_success;
    }
    for (const std::string& line : end_orphans(ledger_, resume_command(work_))) console_.note(line);
    if (const auto prepared = prepare_work(); !prepared) return report(prepared.error());

    int status = exit_no_workloads;
    Json sections = Json::array();
    for (std::size_t i = 0; i < plan_.runs.size() && stop_signal() == 0; ++i) {
      const auto position = CollectPosition::read(checkpoint_of(folder_of(i)));
      if (arguments_.resumes && position && position->is_collected && position->is_published) {
        console_.done(fmt::format("run {} of {} was complete", i + 1, plan_.runs.size()));
        status = exit_success;
        continue;
      }
      auto outcome = run_one(i);
      if (!outcome && outcome.error().code == "interrupted") break;
      if (!outcome && outcome.error().code == "dataset_unwritten")
        return report(outcome.error(),
                      "What was collected is kept. When that is mended, write it by\n  " +
                          resume_command(work_));
      if (!outcome) return report(outcome.error(), advice_for(outcome.error().code));
      sections.push_back(outcome->section);
      std::size_t kept = 0;
      for (const DefinitionOutcome& definition : outcome->sanitized.definitions)
        kept += definition.kept.size();
      if (kept > 0 && status == exit_no_workloads) status = exit_success;
      if (outcome->failure) {
        report(*outcome->failure,
               "What was collected until then is kept. Go on by\n  " + resume_command(work_));
        status = exit_failure;
        break;
      }
    }
    leave_logs();
    if (common_.is_json) print_json(sections);
    if (stop_signal() != 0) {
      console_.note(fmt::format("interrupted; {}. Go on by\n  {}",
                                sections.empty()
                                    ? "nothing was collected yet"
                                    : "what was collected is in " + arguments_.trace_dir.string(),
                                resume_command(work_)));
      return 130;
    }
    return status;
  }

 private:
  std::string host() const { return launch_.host.value_or(arguments_.address.host); }

  std::filesystem::path folder_of(std::size_t run) const {
    return work_ / fmt::format("run{}", run + 1);
  }

  // Nothing of what is finished stays but its logs: the engine's, and what was run.
  void leave_logs() const {
    Json positions = Json::array();
    for (std::size_t i = 0; i < plan_.runs.size(); ++i) {
      const auto position = CollectPosition::read(checkpoint_of(folder_of(i)));
      if (!position || !position->is_collected || !position->is_published) return;
      positions.push_back(position->to_json());
    }
    const auto text = read_file(AT_FDCWD, (work_ / run_file).string(), 1 << 20);
    auto json = text ? parse_json(*text) : std::nullopt;
    if (!json || !json->is_object()) return;
    (*json)["finished"] = std::move(positions);
    if (!write_atomically(work_ / run_file, dump(*json) + "\n", Durability::power_failure,
                          Access::owner))
      return;
    std::error_code ignored;
    for (std::size_t i = 0; i < plan_.runs.size(); ++i)
      std::filesystem::remove_all(checkpoint_of(folder_of(i)), ignored);
    std::filesystem::remove(work_ / lock_file, ignored);
  }

  // A folder of the user's that holds other things is left as it is: what is put into it is
  // private.
  Result<void> make_work_folder() const {
    std::error_code error;
    const bool is_used = std::filesystem::exists(work_, error) &&
                         !std::filesystem::is_empty(work_, error) &&
                         !std::filesystem::exists(work_ / run_file, error);
    return is_used ? Result<void>() : ensure_private_directory(work_);
  }

  // What an earlier run has found there and not written is not thrown away.
  Result<void> prepare_work() {
    CW_CHECK(Publication::check(arguments_.trace_dir));
    CW_CHECK(make_work_folder());
    lock_ = open_private(work_ / lock_file, O_RDWR);
    if (!lock_)
      return fail("unwritable", "cannot write into {}: {}", work_.string(), std::strerror(errno));
    if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
      return fail("work_dir_used",
                  "a collection is running in {}; end it, or give another --work-dir",
                  work_.string());
    if (!arguments_.resumes) {
      for (std::size_t i = 0; i < plan_.runs.size(); ++i) {
        const auto position = CollectPosition::read(checkpoint_of(folder_of(i)));
        if (position && !position->is_published)
          return fail("work_dir_used",
                      "{} holds a run that was killed; go on with it by\n  {}\nor give another "
                      "--work-dir, or "
                      "remove that folder",
                      work_.string(), resume_command(work_));
        std::error_code ignored;
        std::filesystem::remove_all(checkpoint_of(folder_of(i)), ignored);
      }
    }
    return write_words(work_, arguments_.words);
  }

  // Brings a checkout up to date, asks the engine for its version and flags, and fits the runs'
  // flags to them.
  Result<void> prepare_engine() {
    const EngineArguments& engine = arguments_.engine;
    if (!engine.launch_command.empty()) return {};
    const EngineRecipe& recipe = recipes_.engines.at(engine.engine);
    if (const auto checkout = chosen_checkout())
      CW_CHECK(prepare_checkout(
          {*checkout, "collect_workload_for_" + chosen_[0]->name, python_, engine.updates,
           arguments_.is_dry_run},
          [this](const std::string& line) { console_.command(line); },
          [this](const std::string& reason) { console_.note(reason); }));
    std::set<std::string> known;
    if (!recipe.version.empty()) {
      auto version =
          run({fill_in(recipe.version, {{"python", python_}})}, std::chrono::seconds(60));
      if (!version && !arguments_.is_dry_run)
        return fail(
            "engine_missing",
            "{} is not installed for {}: {}\nInstall it there, choose another environment with "
            "--python, --venv or --conda-env, or try --engine simulated",
            engine.engine, python_, last_line_of(version.error().message));
      if (!version)
        console_.note(
            fmt::format("{} is not installed for {}: this is what would be run where it is",
                        engine.engine, python_));
      if (version) {
        while (!version->empty() && version->back() == '\n') version->pop_back();
        version_ = *version;
        console_.done(version_ + " in " + python_);
      }
    }
    if (!recipe.help.empty()) {
      const auto help =
          run({fill_in(recipe.help, {{"python", python_}})}, std::chrono::seconds(300));
      if (help)
        known = flags_in_help(*help);
      else
        console_.note("its flags are not known: --help failed; the recipe's are taken as they are");
    }
    for (EngineRun& run : plan_.runs) {
      FittedFlags fitted = fit_flags(run.flags, known, given_flags_);
      for (const std::string& note : fitted.notes) console_.note(note);
      auto& words = run.command.arguments;
      words.insert(words.end(), fitted.words.begin(), fitted.words.end());
      words.insert(words.end(), given_flags_.begin(), given_flags_.end());
    }
    return {};
  }

  // What would be run, for other tools.
  Json plan_json() const {
    Json runs = Json::array(), unreachable = Json::array();
    for (const EngineRun& run : plan_.runs) {
      Json definitions = Json::array();
      for (const Definition* definition : run.definitions) definitions.push_back(definition->name);
      runs.push_back({{"definitions", std::move(definitions)},
                      {"model", run.model_path},
                      {"tensor_parallel", run.tensor_parallel},
                      {"command", redact(run.command.arguments)}});
    }
    for (const Unreachable& item : plan_.unreachable)
      unreachable.push_back(
          {{"definition", item.definition->name}, {"why", item.why}, {"reach", item.reach}});
    return {{"runs", std::move(runs)}, {"unreachable", std::move(unreachable)}};
  }

  // Of a traceback it is the one that says what was wrong.
  static std::string last_line_of(std::string text) {
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text.substr(text.rfind('\n') + 1);
  }

  // A checkout is touched when it is asked for, or when somebody says yes.
  std::optional<std::filesystem::path> chosen_checkout() {
    const EngineArguments& engine = arguments_.engine;
    if (engine.engine != "sglang") return {};
    if (!engine.sglang_path.empty()) return engine.sglang_path;
    const std::filesystem::path usual = "tmp/sglang";
    std::error_code error;
    if (!std::filesystem::exists(usual, error)) return {};
    const bool can_ask = !arguments_.is_dry_run && !common_.is_quiet && ::isatty(STDIN_FILENO) &&
                         ::isatty(STDERR_FILENO);
    if (can_ask && asks_for_yes(fmt::format("Bring {} up to date and install it into {}?",
                                            usual.string(), python_)))
      return usual;
    console_.note(
        fmt::format("{0} is left alone: SGLang is used as it is installed. To have it brought up "
                    "to date and installed, "
                    "give\n  --sglang-path {0}",
                    usual.string()));
    return {};
  }

  void show_run(std::size_t index) {
    const EngineRun& run = plan_.runs[index];
    console_.text(
        fmt::format("\nRun {} of {}: {}{}\n", index + 1, plan_.runs.size(),
                    run.model_path.empty() ? "the given command" : run.model_path,
                    run.tensor_parallel > 1 ? fmt::format(", tp {}", run.tensor_parallel) : ""));
    for (const Definition* definition : run.definitions)
      console_.text("    " + definition->name + "\n");
    Command shown = run.command;
    shown.arguments = fill_in(shown.arguments, {{"host", host()}, {"port", "PORT"}});
    console_.command(printable(shown));
    if (capture() == CaptureKind::level10)
      console_.text(
          fmt::format("    FLASHINFER_DUMP_INCLUDE={}\n", fmt::join(filter(run).include, ",")));
    else
      console_.text("    with the recorder in it\n");
  }

  // A resumed run whose dumps are kept gets a folder beside them; recordings are read again, all
  // together.
  std::filesystem::path dump_folder(std::size_t index) const {
    const std::filesystem::path first = arguments_.dump_dir.empty()
                                            ? folder_of(index) / "dumps"
                                            : arguments_.dump_dir / fmt::format("run{}", index + 1);
    const bool is_beside =
        capture() == CaptureKind::level10 && arguments_.resumes && arguments_.keeps_dumps;
    return is_beside ? first_unused(first) : first;
  }

  Result<std::unique_ptr<PromptSource>> open_prompts() const {
    TrafficArguments traffic = arguments_.traffic;
    if (is_simulated() && traffic.prompts.empty()) traffic.uses_random_prompts = true;
    return open_prompt_source(traffic, is_simulated() ? "" : python_);
  }

  Result<CollectRunOutcome> run_one(std::size_t index) {
    const EngineRun& run = plan_.runs[index];
    const std::filesystem::path folder = folder_of(index);
    CW_CHECK(ensure_private_directory(folder));
    CollectRunOptions options;
    CW_TRY(const int port,
           free_port(host(), launch_.port != 0 ? launch_.port : arguments_.address.port));
    options.dumps = dump_folder(index);
    options.checkpoint = checkpoint_of(folder);
    options.resumes = arguments_.resumes;
    options.engine.command = run.command;
    options.engine.command.arguments =
        fill_in(run.command.arguments, {{"host", host()}, {"port", std::to_string(port)}});
    options.capture = capture();
    CW_TRY(auto variables, capture_environment(run, options.dumps));
    add_capture_variables(options.engine.command, std::move(variables));
    options.engine.log = folder / "engine.log";
    std::error_code ignored;
    std::filesystem::remove(options.engine.log,
                            ignored);  // an earlier run's would explain this one's death
    options.engine.url = url_of(host(), port);
    options.engine.start_limit = std::chrono::seconds(arguments_.start_limit);
    options.engine.ledger = ledger_;
    options.engine.dumps = options.dumps;
    options.engine.resume = resume_command(work_);
    options.traffic = traffic_options(arguments_.traffic);
    options.traffic.url = options.engine.url;
    if (const std::string key = api_key_of(run.command.arguments);
        arguments_.traffic.api_key.empty() && !key.empty())
      options.traffic.headers.emplace_back("Authorization", "Bearer " + key);
    options.engine.headers = options.traffic.headers;
    options.endpoint = arguments_.traffic.endpoint;
    // Batches that only take the likeliest token call no sampling kernel.
    const bool wants_sampling =
        std::any_of(run.definitions.begin(), run.definitions.end(),
                    [](const Definition* d) { return d->op_type == "sampling"; });
    if (wants_sampling && !options.traffic.top_k && !options.traffic.top_p) {
      options.traffic.top_k = 50;
      options.traffic.top_p = 0.9;
      if (!options.traffic.temperature) options.traffic.temperature = 0.8;
    }
    options.sanitize = arguments_.options;
    options.sanitize.slowness = slowness_for_tests();
    options.sanitize.definition_names.clear();
    options.sanitize.op_types.clear();
    for (const Definition* definition : run.definitions)
      options.sanitize.definition_names.push_back(definition->name);
    options.keeps_dumps = arguments_.keeps_dumps;
    options.disk_budget = arguments_.disk_budget;
    options.until_saturated = arguments_.until_saturated;
    options.hang_limit = std::chrono::seconds(arguments_.hang_limit);
    options.prompts = [this] { return open_prompts(); };
    if (arguments_.uses_bench_serving) options.traffic_command = bench_serving(run, port);
    options.sanitize.provenance = provenance(run, options);  // of all that is set above
    CallCounts counts;
    options.engine.command.environment.push_back(counts.environment());
    options.engine_ended = [&] {
      const LostCalls lost = counts.settle(options.dumps, std::chrono::seconds(10));
      if (const std::string text = describe_lost(lost); !text.empty()) console_.note(text);
    };

    console_.title(fmt::format("Run {} of {}: engine", index + 1, plan_.runs.size()));
    console_.command(printable({options.engine.command.arguments}));
    console_.text("    log: " + options.engine.log.string() + "\n");
    ProgressLine progress(common_.is_quiet);
    CollectObserver observer;
    observer.loading = [&](const std::string& line) {
      progress.update("loading: " + line.substr(0, longest_log_line));
    };
    observer.ready = [&](double seconds) {
      progress.clear();
      console_.done(fmt::format("ready after {:.1f} s at {}", seconds, options.engine.url));
      console_.title(fmt::format("Run {} of {}: traffic", index + 1, plan_.runs.size()));
    };
    observer.running = [&](const CollectProgress& p) {
      std::size_t distinct = 0;
      for (const Progress& definition : p.definitions) distinct += definition.distinct;
      const std::string line = fmt::format(
          "{}/{} prompts{}, {:.0f} tok/s, {} calls, {} workloads, disk {} of {}{}", p.done,
          p.requests, p.failed > 0 ? fmt::format(" ({} failed)", p.failed) : "",
          p.tokens_per_second, with_separators(p.calls), with_separators(distinct),
          size_text(p.disk), size_text(options.disk_budget), p.is_frozen ? ", engine frozen" : "");
      progress.update(line, live_table(p.definitions));
    };
    observer.note = [&](const std::string& text) {
      progress.clear();
      console_.note(text);
    };
    auto outcome = collect_run(options, dataset_, bindings_, observer);
    progress.clear();
    if (!outcome) return outcome;
    show_outcome(run, *outcome, options);
    return outcome;
  }

  // The key that an engine is started with is the one it wants.
  static std::string api_key_of(const std::vector<std::string>& words) {
    constexpr std::string_view flag = "--api-key";
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (words[i] == flag && i + 1 < words.size() && !words[i + 1].starts_with('-'))
        return words[i + 1];
      if (words[i].starts_with(std::string(flag) + "=")) return words[i].substr(flag.size() + 1);
    }
    return {};
  }

  // SGLang's client with the same prompts and schedule, as far as it has flags for them.
  Command bench_serving(const EngineRun& run, int port) const {
    const TrafficArguments& traffic = arguments_.traffic;
    Command command{{python_, "-m", "sglang.bench_serving", "--disable-tqdm"}};
    // In one word with its flag no value is taken for another flag.
    const auto add = [&command](const std::string& flag, const std::string& value) {
      command.arguments.push_back(flag + "=" + value);
    };
    add("--backend", "sglang");
    add("--host", host());
    add("--port", std::to_string(port));
    add("--num-prompts",
        std::to_string(traffic.num_prompts.value_or(TrafficArguments::most_prompts)));
    if (!run.model_path.empty()) add("--model", run.model_path);
    if (traffic.concurrency > 0) add("--max-concurrency", std::to_string(traffic.concurrency));
    if (traffic.request_rate > 0) add("--request-rate", fmt::format("{}", traffic.request_rate));
    const auto& length = traffic.options.output_tokens;
    if (traffic.uses_random_prompts) {
      add("--dataset-name", "random-ids");  // "random" would fetch texts to cut
      add("--random-input-len", std::to_string(traffic.random.input_high));
      add("--random-range-ratio",
          fmt::format("{}", static_cast<double>(traffic.random.input_low) /
                                static_cast<double>(traffic.random.input_high)));
      if (length) add("--random-output-len", std::to_string(length->second));
    } else {
      add("--dataset-name", "sharegpt");
      if (!traffic.prompts.empty())
        add("--dataset-path", std::filesystem::absolute(traffic.prompts).string());
      if (length) add("--sharegpt-output-len", std::to_string(length->second));
    }
    return command;
  }

  void show_outcome(const EngineRun& run, const CollectRunOutcome& outcome,
                    const CollectRunOptions& options) {
    if (outcome.traffic.sent > 0) console_.text(describe(outcome.traffic) + "\n");
    if (outcome.is_saturated) console_.done("saturated: no definition met anything new any more");
    console_.done(fmt::format(
        "engine ended; at most {} captured on disk{}", size_text(outcome.peak_disk),
        outcome.freezes > 0 ? fmt::format(", engine frozen {} times meanwhile", outcome.freezes)
                            : ""));
    if (options.capture == CaptureKind::recording && outcome.sanitized.survey.processes.empty())
      console_.note(fmt::format(
          "{}; {} says what was started. --capture level10 needs no more than FlashInfer",
          nothing_recorded, options.engine.log.string()));
    console_.title("Workloads");
    std::vector<std::string> names;
    for (const Definition* definition : run.definitions) names.push_back(definition->name);
    console_.text(describe(outcome.sanitized, names));
    console_.text("\n" + coverage(outcome));
    console_.text(next_steps(outcome.sanitized, arguments_.trace_dir, false,
                             arguments_.engine.engine == "simulated",
                             options.keeps_dumps ? options.dumps.string() : ""));
    if (options.keeps_dumps)
      console_.text("The dumps are kept in\n  " + options.dumps.string() + "\n");
  }

  Json provenance(const EngineRun& run, const CollectRunOptions& options) const {
    Json environment = Json::object(), command = Json::array();
    for (const auto& [name, value] : run.command.environment)
      environment[name] = without_local_folders(value);
    for (const std::string& word : run.command.arguments)
      command.push_back(without_local_folders(word));
    const CaptureFilter used = filter(run);
    Json json = {
        {"engine", arguments_.engine.launch_command.empty() ? arguments_.engine.engine : "command"},
        {"simulated", is_simulated()},
        {"version", version_},
        {"model", without_local_folders(run.model_path)},
        {"tensor_parallel", run.tensor_parallel},
        {"profile", run.profile},
        {"command", std::move(command)},
        {"environment", std::move(environment)},
        {"capture", capture() == CaptureKind::level10 ? "level10" : "recorder"},
        {"started", timestamp()},
        {"prompts", arguments_.traffic.uses_random_prompts ||
                            (is_simulated() && arguments_.traffic.prompts.empty())
                        ? "random"
                        : arguments_.traffic.prompts.filename().string()},
        {"schedules", Json::array()},
        {"disk_budget_bytes", options.disk_budget}};
    if (capture() == CaptureKind::level10) {
      json["dump_include"] = used.include;
      json["dump_exclude"] = used.exclude;
    }
    for (const Schedule& schedule : options.traffic.schedules)
      json["schedules"].push_back({{"concurrency", schedule.concurrency},
                                   {"rate", schedule.rate},
                                   {"trace_arrivals", schedule.follows_arrivals},
                                   {"requests", schedule.requests}});
    return json;
  }

  /// Of the engine's, where there is no terminal to cut it.
  static constexpr std::size_t longest_log_line = 160;

  const CollectArguments& arguments_;
  const CommonArguments& common_;
  Console console_;
  BindingSet bindings_;
  Recipes recipes_;
  Dataset dataset_;
  std::vector<const Definition*> chosen_;
  EnginePlan plan_;
  std::string python_, version_;
  std::vector<std::string> given_flags_;
  LaunchCommand launch_;  ///< empty words: none is given
  std::filesystem::path ledger_, work_;
  FileDescriptor lock_;  ///< on work_, as long as we run
};

// A word that a secret was taken out of is of no use, unless its option is given again.
Result<void> check_secrets(const std::vector<std::string>& words,
                           const std::vector<std::string>& given,
                           const std::filesystem::path& work_dir) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i].find(redacted) == std::string::npos) continue;
    const std::string option = words[i].starts_with("--") ? words[i].substr(0, words[i].find('='))
                               : i > 0                    ? words[i - 1]
                                                          : "";
    const bool is_given = std::any_of(given.begin(), given.end(), [&](const std::string& word) {
      return word == option || word.starts_with(option + "=");
    });
    if (!is_given)
      return fail(
          "secret_needed",
          "what {} was given had a secret in it, which is not kept; give it again:\n  {} {} '…'",
          option, resume_command(work_dir), option);
  }
  return {};
}

}  // namespace

bool has_unfinished_run(const std::filesystem::path& work_dir) {
  std::error_code error;
  for (int i = 1; std::filesystem::exists(work_dir / fmt::format("run{}", i), error); ++i) {
    const std::filesystem::path checkpoint = checkpoint_of(work_dir / fmt::format("run{}", i));
    const auto position = CollectPosition::read(checkpoint);
    // One that cannot be read may be another version's.
    if (position ? !position->is_collected || !position->is_published
                 : std::filesystem::exists(checkpoint, error))
      return true;
  }
  return false;
}

Result<std::vector<std::string>> resumed_words(std::filesystem::path& work_dir,
                                               const std::vector<std::string>& given) {
  std::error_code error;
  if (work_dir.empty()) {
    CW_TRY(const auto state, state_folder());
    std::vector<std::filesystem::path> candidates;  // their names begin with the time
    for (const auto& entry : std::filesystem::directory_iterator(state / "runs", error))
      if (has_unfinished_run(entry.path())) candidates.push_back(entry.path());
    if (candidates.empty())
      return fail("nothing_to_resume", "no interrupted run is in {}; name its --work-dir",
                  (state / "runs").string());
    work_dir = *std::max_element(candidates.begin(), candidates.end());
  }
  work_dir = std::filesystem::absolute(work_dir);
  const auto text = read_file(AT_FDCWD, (work_dir / run_file).string(), 1 << 20);
  const auto json = text ? parse_json(*text) : std::nullopt;
  if (!json || !json->is_object() || !json->contains("words") || !(*json)["words"].is_array())
    return fail("nothing_to_resume", "{} holds no run of collect: there is no {} in it",
                work_dir.string(), run_file);
  std::vector<std::string> words;
  for (const Json& word : (*json)["words"])
    if (word.is_string()) words.push_back(word.get<std::string>());
  CW_CHECK(check_secrets(words, given, work_dir));
  for (auto word = words.begin(); word != words.end();) {  // the folder may have been moved
    const bool has_value = *word == "--work-dir" && word + 1 != words.end();
    const bool is_left_out = *word == "--work-dir" || word->starts_with("--work-dir=") ||
                             *word == "-q" || *word == "--quiet" || *word == "--json";
    word = is_left_out ? words.erase(word, word + (has_value ? 2 : 1)) : word + 1;
  }
  const std::string directory = string_member(*json, "directory");
  if (words.empty() || words[0] != "collect" || directory.empty())
    return fail("nothing_to_resume", "{}: not a run of collect", (work_dir / run_file).string());
  std::filesystem::current_path(directory, error);
  if (error)
    return fail("nothing_to_resume", "it was started in {}: {}", directory, error.message());
  return words;
}

int run_collect(const CollectArguments& arguments, const CommonArguments& common) {
  watch_signals();
  Collect collect(arguments, common);
  if (const auto prepared = collect.prepare(); !prepared) return report(prepared.error());
  return collect.execute();
}

int run_env(const CollectArguments& arguments, const CommonArguments& common) {
  Collect collect(arguments, common);
  if (const auto prepared = collect.prepare(); !prepared) return report(prepared.error());
  const std::filesystem::path folder = !arguments.dump_dir.empty() ? arguments.dump_dir
                                       : collect.capture() == CaptureKind::recording
                                           ? std::filesystem::current_path() / "recording"
                                           : std::filesystem::current_path() / "flashinfer-dumps";
  Json json = Json::array();
  for (const Unreachable& item : collect.plan().unreachable)
    print(stderr, fmt::format("collect-workloads: {} cannot be reached: {}\n",
                              item.definition->name, item.why));
  for (const EngineRun& run : collect.plan().runs) {
    auto variables = run.command.environment;
    auto captured = collect.capture_environment(run, folder);
    if (!captured) return report(captured.error(), advice_for(captured.error().code));
    for (auto& variable : *captured) variables.push_back(std::move(variable));
    if (common.is_json) {
      Json object = Json::object();
      for (const auto& [name, value] : variables) object[name] = value;
      json.push_back(std::move(object));
      continue;
    }
    std::vector<std::string> names;
    for (const Definition* definition : run.definitions) names.push_back(definition->name);
    print(stdout, fmt::format("# {}\n", fmt::join(names, ", ")));
    for (const auto& variable : variables)
      print(stdout, fmt::format("export {}\n", to_shell({{}, {variable}})));
  }
  if (collect.plan().runs.size() > 1 && !common.is_json)
    print(stderr, fmt::format("collect-workloads: {} engine runs, and a block of variables for "
                              "each: take one block\n",
                              collect.plan().runs.size()));
  if (common.is_json) print_json(json);
  return collect.plan().runs.empty() ? exit_failure : exit_success;
}

}  // namespace cw::cli
