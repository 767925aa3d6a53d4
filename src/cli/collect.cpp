#include <cstdio>
#include <cstdlib>
#include <ctime>

#include <fmt/ranges.h>
#include <unistd.h>

#include "base/console.h"
#include "base/file.h"
#include "cli/commands.h"
#include "collect/checkout.h"
#include "pipeline/collection.h"

namespace cw::cli {
namespace {

// Words of a command line, with the shell's quotes and backslashes.
std::vector<std::string> shell_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  bool has_word = false;
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0) {
      if (c == quote)
        quote = 0;
      else if (c == '\\' && quote == '"' && i + 1 < text.size())
        word += text[++i];
      else
        word += c;
    } else if (c == '\'' || c == '"') {
      quote = c;
      has_word = true;
    } else if (c == '\\' && i + 1 < text.size()) {
      word += text[++i];
      has_word = true;
    } else if (c == ' ' || c == '\t' || c == '\n') {
      if (has_word) words.push_back(std::exchange(word, {}));
      has_word = false;
    } else {
      word += c;
      has_word = true;
    }
  }
  if (has_word) words.push_back(word);
  return words;
}

std::string timestamp() {
  char text[32];
  const std::time_t now = std::time(nullptr);
  std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", std::gmtime(&now));
  return text;
}

std::string self_path() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

// A conda environment's python; empty when there is no such environment.
std::string conda_python(const std::string& name) {
  std::vector<std::filesystem::path> bases;
  if (const char* exe = std::getenv("CONDA_EXE"))
    bases.push_back(std::filesystem::path(exe).parent_path().parent_path());
  if (const char* home = std::getenv("HOME"))
    for (const char* folder : {"miniconda3", "anaconda3", "miniforge3", "mambaforge", ".conda"})
      bases.push_back(std::filesystem::path(home) / folder);
  for (const char* folder : {"/opt/conda", "/opt/miniconda3", "/opt/miniforge3"}) bases.emplace_back(folder);
  std::error_code error;
  for (const auto& base : bases)
    if (const auto python = base / "envs" / name / "bin/python"; std::filesystem::exists(python, error))
      return python.string();
  return {};
}

// SM90 for an H100 or H200; 0 where nvidia-smi does not say.
int compute_capability() {
  const auto output = run({{"nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"}}, std::chrono::seconds(20));
  int major = 0, minor = 0;
  if (!output || std::sscanf(output->c_str(), "%d.%d", &major, &minor) != 2) return 0;
  return major * 10 + minor;
}

// What goes to the terminal: boxed titles, one line a thing done.
class Console {
 public:
  explicit Console(const CommonArguments& common)
      : is_quiet_(common.is_quiet), out_(common.is_json ? stderr : stdout), has_colour_(has_colour(common.is_json ? 2 : 1)) {}

  void title(const std::string& text) {
    const std::string line(76, '=');
    print(fmt::format("\n{}\n  {}\n{}\n", line, bold(text), line));
  }
  void done(const std::string& text) { print(wrap_lines((has_colour_ ? "\033[32m✓\033[0m " : "✓ "), text)); }
  void note(const std::string& text) { print(wrap_lines((has_colour_ ? "\033[33m!\033[0m " : "! "), text)); }
  void command(const std::string& text) { print("  $ " + text + "\n"); }
  void text(const std::string& text) { print(text); }

 private:
  void print(const std::string& text) {
    if (is_quiet_) return;
    std::fputs(text.c_str(), out_);
    std::fflush(out_);
  }
  std::string bold(const std::string& text) const { return has_colour_ ? "\033[1m" + text + "\033[0m" : text; }
  static std::string wrap_lines(const std::string& mark, const std::string& text) {
    std::string result;
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      std::string wrapped = wrap(text.substr(begin, end - begin), 78, "  ");
      if (begin == 0) wrapped.replace(0, 2, mark);
      result += wrapped;
      begin = end + 1;
    }
    return result;
  }

  bool is_quiet_;
  std::FILE* out_;
  bool has_colour_;
};

class Collect {
 public:
  Collect(const CollectArguments& arguments, const CommonArguments& common)
      : arguments_(arguments), common_(common), console_(common) {}

  Result<void> prepare() {
    CW_TRY(bindings_, load_bindings(common_));
    CW_TRY(recipes_, load_recipes(arguments_.engine.recipes));
    CW_TRY(dataset_, Dataset::open(arguments_.trace_dir));
    if (arguments_.options.definition_names.empty() && arguments_.options.op_types.empty())
      return fail("nothing_asked", "name what to collect: --definition-name NAME or --op-type TYPE");
    CW_TRY(chosen_, choose_definitions(dataset_, arguments_.options.definition_names, arguments_.options.op_types));
    CW_CHECK(find_python());
    EnginePlanOptions options;
    options.engine = arguments_.engine.engine;
    options.python = python_;
    options.self = self_path();
    options.model_name = arguments_.engine.model_name;
    options.tensor_parallel = arguments_.engine.tensor_parallel;
    options.launch_command = shell_words(arguments_.engine.launch_command);
    if (options.engine != "simulated" && options.launch_command.empty()) options.compute_capability = compute_capability();
    given_flags_ = shell_words(arguments_.engine.engine_flags);
    CW_TRY(plan_, plan_runs(chosen_, bindings_, recipes_, options));
    return {};
  }

  CaptureFilter filter(const EngineRun& run) const {
    CaptureFilter filter = filter_for(run.bindings);
    if (!arguments_.include.empty()) filter.include = arguments_.include;
    filter.exclude.insert(filter.exclude.end(), arguments_.exclude.begin(), arguments_.exclude.end());
    filter.max_count = arguments_.max_count.value_or(filter.max_count);
    filter.max_size_gb = arguments_.max_size_gb.value_or(filter.max_size_gb);
    return filter;
  }

  const EnginePlan& plan() const { return plan_; }

  int execute() {
    console_.title("Plan");
    for (const Unreachable& item : plan_.unreachable)
      console_.note(fmt::format("{} cannot be reached: {}{}", item.definition->name, item.why,
                                item.reach.empty() ? "" : ". What would: " + item.reach));
    if (plan_.runs.empty())
      return report({"unreachable", "no engine run reaches any of the definitions asked for"},
                    "The lines above say why, and what would.");
    if (const auto ready = prepare_engine(); !ready) return report(ready.error());
    for (std::size_t i = 0; i < plan_.runs.size(); ++i) show_run(i);
    if (arguments_.is_dry_run) {
      console_.text("\nNothing was started (--dry-run).\n");
      return exit_success;
    }
    const auto state = state_folder();
    if (!state) return report(state.error());
    ledger_ = *state / "engines";
    if (const auto made = make_directories(ledger_); !made) return report(made.error());
    for (const std::string& line : end_orphans(ledger_)) console_.note(line);
    work_ = arguments_.work_dir.empty()
                ? *state / "runs" / fmt::format("{}-{}", timestamp(), static_cast<long>(::getpid()))
                : arguments_.work_dir;

    int status = exit_no_workloads;
    Json sections = Json::array();
    for (std::size_t i = 0; i < plan_.runs.size() && stop_signal() == 0; ++i) {
      auto outcome = run_one(i);
      if (!outcome && outcome.error().code == "interrupted") break;
      if (!outcome) return report(outcome.error(), advice_for(outcome.error().code));
      sections.push_back(outcome->section);
      std::size_t kept = 0;
      for (const DefinitionOutcome& definition : outcome->sanitized.definitions) kept += definition.kept.size();
      if (kept > 0 && status == exit_no_workloads) status = exit_success;
      if (outcome->failure) {
        report(*outcome->failure, "What was collected until then is kept.");
        status = exit_failure;
        break;
      }
    }
    if (common_.is_json) std::puts(dump_indented(sections).c_str());
    if (stop_signal() != 0) {
      console_.note(fmt::format("interrupted; what was collected is in {}. The same command adds to it.",
                                arguments_.trace_dir.string()));
      return 130;
    }
    return status;
  }

 private:
  Result<void> find_python() {
    const EngineArguments& engine = arguments_.engine;
    python_ = "python3";
    if (engine.engine == "simulated") return {};
    if (!engine.python.empty()) {
      python_ = engine.python.string();
    } else if (!engine.venv.empty()) {
      python_ = (engine.venv / "bin/python").string();
      std::error_code error;
      if (!std::filesystem::exists(python_, error)) return fail("not_found", "--venv: there is no {}", python_);
    } else if (const std::string found = conda_python(engine.conda_env.empty() ? "flashinfer" : engine.conda_env);
               !found.empty()) {
      python_ = found;
    } else if (!engine.conda_env.empty()) {
      return fail("not_found", "no conda environment is called {}", engine.conda_env);
    }
    return {};
  }

  // Brings a checkout up to date, asks the engine for its version and flags, and fits the runs' flags to them.
  Result<void> prepare_engine() {
    const EngineArguments& engine = arguments_.engine;
    if (!engine.launch_command.empty()) return {};
    const EngineRecipe& recipe = recipes_.engines.at(engine.engine);
    std::error_code error;
    const std::filesystem::path checkout = engine.sglang_path.empty() ? "tmp/sglang" : engine.sglang_path;
    const bool has_checkout =
        engine.engine == "sglang" && (!engine.sglang_path.empty() || std::filesystem::exists(checkout, error));
    if (has_checkout && !arguments_.is_dry_run)
      CW_CHECK(prepare_checkout({checkout, "collect_workload_for_" + chosen_[0]->name, python_, engine.updates},
                                [this](const std::string& line) { console_.command(line); }));
    std::set<std::string> known;
    if (!recipe.version.empty()) {
      auto version = run({fill_in(recipe.version, {{"python", python_}})}, std::chrono::seconds(60));
      if (!version && !arguments_.is_dry_run)
        return fail("engine_missing", "{} is not installed for {}: {}\nInstall it there, choose another environment with "
                                      "--python, --venv or --conda-env, or try --engine simulated",
                    engine.engine, python_, version.error().message);
      if (version) {
        while (!version->empty() && version->back() == '\n') version->pop_back();
        version_ = *version;
        console_.done(version_ + " in " + python_);
      }
    }
    if (!recipe.help.empty()) {
      const auto help = run({fill_in(recipe.help, {{"python", python_}})}, std::chrono::seconds(300));
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

  void show_run(std::size_t index) {
    const EngineRun& run = plan_.runs[index];
    console_.text(fmt::format("\nRun {} of {}: {}{}\n", index + 1, plan_.runs.size(),
                              run.model_path.empty() ? "the given command" : run.model_path,
                              run.tensor_parallel > 1 ? fmt::format(", tp {}", run.tensor_parallel) : ""));
    for (const Definition* definition : run.definitions) console_.text("    " + definition->name + "\n");
    Command shown = run.command;
    shown.arguments = fill_in(shown.arguments, {{"host", arguments_.address.host}, {"port", "PORT"}});
    console_.command(to_shell(shown));
    console_.text(fmt::format("    FLASHINFER_DUMP_INCLUDE={}\n", fmt::join(filter(run).include, ",")));
  }

  Result<CollectRunOutcome> run_one(std::size_t index) {
    const EngineRun& run = plan_.runs[index];
    const std::filesystem::path folder = work_ / fmt::format("run{}", index + 1);
    CW_CHECK(make_directories(folder));
    CollectRunOptions options;
    CW_TRY(const int port, arguments_.address.port > 0 ? Result<int>(arguments_.address.port) : free_port());
    options.dumps = arguments_.dump_dir.empty() ? folder / "dumps" : arguments_.dump_dir / fmt::format("run{}", index + 1);
    options.engine.command = run.command;
    options.engine.command.arguments =
        fill_in(run.command.arguments, {{"host", arguments_.address.host}, {"port", std::to_string(port)}});
    for (auto& variable : filter(run).environment(options.dumps))
      options.engine.command.environment.push_back(std::move(variable));
    options.engine.log = folder / "engine.log";
    std::error_code ignored;
    std::filesystem::remove(options.engine.log, ignored);  // an earlier run's would explain this one's death
    options.engine.url = fmt::format("http://{}:{}", arguments_.address.host, port);
    options.engine.start_limit = std::chrono::seconds(arguments_.start_limit);
    options.engine.ledger = ledger_;
    options.engine.dumps = options.dumps;
    options.traffic = traffic_options(arguments_.traffic);
    options.traffic.url = options.engine.url;
    options.traffic.model = run.model_path.empty() ? "default" : run.model_path;
    // Batches that only take the likeliest token call no sampling kernel.
    const bool wants_sampling = std::any_of(run.definitions.begin(), run.definitions.end(),
                                            [](const Definition* d) { return d->op_type == "sampling"; });
    if (wants_sampling && !options.traffic.top_k && !options.traffic.top_p) {
      options.traffic.top_k = 50;
      options.traffic.top_p = 0.9;
      if (!options.traffic.temperature) options.traffic.temperature = 0.8;
    }
    options.sanitize = arguments_.options;
    options.sanitize.definition_names.clear();
    options.sanitize.op_types.clear();
    for (const Definition* definition : run.definitions) options.sanitize.definition_names.push_back(definition->name);
    options.sanitize.provenance = provenance(run, options);
    options.keeps_dumps = arguments_.keeps_dumps;
    options.disk_budget = arguments_.disk_budget;
    options.until_saturated = arguments_.until_saturated;
    options.hang_limit = std::chrono::seconds(arguments_.hang_limit);
    options.prompts = [this] {
      TrafficArguments traffic = arguments_.traffic;
      const bool is_simulated = arguments_.engine.engine == "simulated";
      if (is_simulated && traffic.prompts.empty()) traffic.uses_random_prompts = true;
      return open_prompt_source(traffic, is_simulated ? "" : python_);
    };
    if (arguments_.uses_bench_serving)
      options.traffic_command =
          Command{{python_, "-m", "sglang.bench_serving", "--backend", "sglang", "--host", arguments_.address.host, "--port",
                   std::to_string(port), "--num-prompts", std::to_string(arguments_.traffic.num_prompts)}};

    console_.title(fmt::format("Run {} of {}: engine", index + 1, plan_.runs.size()));
    console_.command(to_shell({options.engine.command.arguments}));
    console_.text("    log: " + options.engine.log.string() + "\n");
    ProgressLine progress(common_.is_quiet);
    CollectObserver observer;
    observer.loading = [&](const std::string& line) { progress.update("loading: " + line); };
    observer.ready = [&](double seconds) {
      progress.clear();
      console_.done(fmt::format("ready after {:.1f} s at {}", seconds, options.engine.url));
      console_.title(fmt::format("Run {} of {}: traffic", index + 1, plan_.runs.size()));
    };
    observer.running = [&](const CollectProgress& p) {
      std::size_t distinct = 0;
      for (const Progress& definition : p.definitions) distinct += definition.distinct;
      progress.update(fmt::format("{}/{} prompts{}, {:.0f} tok/s, {} calls, {} workloads, disk {:.2f} of {:.1f} GB{}",
                                  p.done, p.requests, p.failed > 0 ? fmt::format(" ({} failed)", p.failed) : "",
                                  p.tokens_per_second, with_separators(p.calls), with_separators(distinct),
                                  static_cast<double>(p.disk) / 1e9, static_cast<double>(options.disk_budget) / 1e9,
                                  p.is_frozen ? ", engine frozen" : ""));
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

  void show_outcome(const EngineRun& run, const CollectRunOutcome& outcome, const CollectRunOptions& options) {
    if (outcome.traffic.sent > 0) console_.text(describe(outcome.traffic) + "\n");
    if (outcome.is_saturated) console_.done("saturated: no definition met anything new any more");
    console_.done(fmt::format("engine ended; at most {:.2f} GB of dumps on disk{}",
                              static_cast<double>(outcome.peak_disk) / 1e9,
                              outcome.freezes > 0 ? fmt::format(", engine frozen {} times meanwhile", outcome.freezes) : ""));
    console_.title("Workloads");
    std::vector<std::string> names;
    for (const Definition* definition : run.definitions) names.push_back(definition->name);
    console_.text(describe(outcome.sanitized, names));
    console_.text("\n" + coverage(outcome));
    console_.text(next_steps(outcome.sanitized, arguments_.trace_dir, false));
    if (options.keeps_dumps) console_.text("The dumps are kept in\n  " + options.dumps.string() + "\n");
  }

  // How far the var axes of each definition were spread.
  static std::string coverage(const CollectRunOutcome& outcome) {
    std::string text;
    for (const DefinitionOutcome& definition : outcome.sanitized.definitions) {
      if (definition.ranges.empty()) continue;
      std::vector<std::string> axes;
      std::size_t var = 0;
      for (const Axis& axis : definition.definition->axes) {
        if (axis.constant) continue;
        const auto& [least, most] = definition.ranges[var++];
        axes.push_back(least == most ? fmt::format("{} {}", axis.name, with_separators(least))
                                     : fmt::format("{} {} to {}", axis.name, with_separators(least), with_separators(most)));
      }
      text += definition.definition->name + "\n" + wrap(fmt::format("{}", fmt::join(axes, ", ")), 80, "    ");
    }
    return text.empty() ? text : "What was seen of the var axes\n" + text;
  }

  Json provenance(const EngineRun& run, const CollectRunOptions& options) const {
    Json environment = Json::object();
    for (const auto& [name, value] : run.command.environment) environment[name] = value;
    const CaptureFilter used = filter(run);
    Json json = {{"engine", arguments_.engine.launch_command.empty() ? arguments_.engine.engine : "command"},
                 {"simulated", arguments_.engine.engine == "simulated" && arguments_.engine.launch_command.empty()},
                 {"version", version_},
                 {"model", run.model_path},
                 {"tensor_parallel", run.tensor_parallel},
                 {"profile", run.profile},
                 {"command", run.command.arguments},
                 {"environment", std::move(environment)},
                 {"dump_include", used.include},
                 {"dump_exclude", used.exclude},
                 {"started", timestamp()},
                 {"prompts", arguments_.traffic.uses_random_prompts ? "random" : arguments_.traffic.prompts.filename().string()},
                 {"schedules", Json::array()},
                 {"disk_budget_bytes", options.disk_budget}};
    if (!json["command"].empty() && arguments_.engine.engine == "simulated") json["command"][0] = "collect-workloads";
    for (const Schedule& schedule : options.traffic.schedules)
      json["schedules"].push_back({{"concurrency", schedule.concurrency}, {"rate", schedule.rate}, {"requests", schedule.requests}});
    return json;
  }

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
  std::filesystem::path ledger_, work_;
};

}  // namespace

int run_collect(const CollectArguments& arguments, const CommonArguments& common) {
  watch_signals();
  Collect collect(arguments, common);
  if (const auto prepared = collect.prepare(); !prepared) return report(prepared.error());
  return collect.execute();
}

int run_env(const CollectArguments& arguments, const CommonArguments& common) {
  Collect collect(arguments, common);
  if (const auto prepared = collect.prepare(); !prepared) return report(prepared.error());
  const std::filesystem::path folder =
      arguments.dump_dir.empty() ? std::filesystem::current_path() / "flashinfer-dumps" : arguments.dump_dir;
  Json json = Json::array();
  for (const Unreachable& item : collect.plan().unreachable)
    std::fprintf(stderr, "collect-workloads: %s cannot be reached: %s\n", item.definition->name.c_str(), item.why.c_str());
  for (const EngineRun& run : collect.plan().runs) {
    auto variables = run.command.environment;
    for (auto& variable : collect.filter(run).environment(folder)) variables.push_back(std::move(variable));
    if (common.is_json) {
      Json object = Json::object();
      for (const auto& [name, value] : variables) object[name] = value;
      json.push_back(std::move(object));
      continue;
    }
    std::vector<std::string> names;
    for (const Definition* definition : run.definitions) names.push_back(definition->name);
    std::printf("# %s\n", fmt::format("{}", fmt::join(names, ", ")).c_str());
    for (const auto& variable : variables) std::printf("export %s\n", to_shell({{}, {variable}}).c_str());
  }
  if (common.is_json) std::puts(dump_indented(json).c_str());
  return collect.plan().runs.empty() ? exit_failure : exit_success;
}

}  // namespace cw::cli
