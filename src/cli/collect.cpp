#include "collect/collect.h"

#include <algorithm>
#include <cstdio>

#include <fmt/ranges.h>
#include <unistd.h>

#include "base/console.h"
#include "base/redact.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/errors.h"
#include "cli/shared_options.h"
#include "cli/texts.h"

namespace cw::cli {
namespace {

constexpr std::size_t max_log_line = 160;  // of the engine's, where no terminal cuts it

// "batch_size 1 to 256, num_kv_indices 2 to 10,998"
std::string describe_ranges(const Definition& definition,
                            const std::vector<std::pair<std::int64_t, std::int64_t>>& ranges,
                            std::string_view to) {
  std::vector<std::string> axes;
  for (const Axis& axis : definition.axes) {
    if (axis.constant || axes.size() == ranges.size()) continue;
    const auto& [min, max] = ranges[axes.size()];
    axes.push_back(min == max ? fmt::format("{} {}", axis.name, with_separators(min))
                              : fmt::format("{} {}{}{}", axis.name, with_separators(min), to,
                                            with_separators(max)));
  }
  return fmt::format("{}", fmt::join(axes, ", "));
}

// "2 GPUs, weights about 16 GB on each, SM100 needed; here: 2 of 141 GB, SM90, with room for about
// 900,000 tokens"
std::string describe_room(const CapturePlan& plan, const EngineRun& run) {
  std::string text =
      run.tensor_parallel == 1 ? "1 GPU" : fmt::format("{} GPUs", run.tensor_parallel);
  if (run.expert_parallel > 1) text += fmt::format(", experts in {} groups", run.expert_parallel);
  if (run.weight_bytes)
    text += fmt::format(", weights about {:.0f} GB on each",
                        *run.weight_bytes / run.tensor_parallel / 1e9);
  if (run.compute_capability > 0) text += fmt::format(", SM{} needed", run.compute_capability);
  if (plan.gpus.count > 0)
    text += fmt::format("; here: {} of {:.0f} GB, SM{}", plan.gpus.count, plan.gpus.memory / 1e9,
                        plan.gpus.compute_capability);

  // Engines leave a tenth of the memory for activations and graphs.
  constexpr double share = 0.9;
  if (plan.gpus.memory > 0 && run.weight_bytes && run.kv_bytes) {
    const double room = share * plan.gpus.memory - *run.weight_bytes / run.tensor_parallel;
    const auto thousands = static_cast<std::uint64_t>(std::max(room, 0.0) / *run.kv_bytes / 1000);
    text += fmt::format(", with room for about {} tokens of KV cache",
                        with_separators(thousands * 1000));
  }
  return text;
}

// Two rows per definition, under the progress line.
std::vector<std::string> live_table(const std::vector<Progress>& definitions) {
  std::vector<std::string> rows{fmt::format("{:>9}{:>9}  {}", "found", "calls", "definition")};
  for (const Progress& progress : definitions) {
    rows.push_back(fmt::format("{:>9}{:>9}  {}", with_separators(progress.distinct),
                               with_separators(progress.calls), progress.definition->name));
    if (!progress.ranges.empty())
      rows.push_back("    " + describe_ranges(*progress.definition, progress.ranges, "-"));
  }
  return rows;
}

std::string progress_line(const CollectProgress& progress, std::uint64_t disk_budget) {
  std::size_t distinct = 0;
  for (const Progress& definition : progress.definitions) distinct += definition.distinct;
  return fmt::format(
      "{}/{} prompts{}, {:.0f} tok/s, {} calls, {}, disk {} of {}{}", progress.done,
      progress.requests, progress.failed > 0 ? fmt::format(" ({} failed)", progress.failed) : "",
      progress.tokens_per_second, with_separators(progress.calls),
      progress.why_none.empty() ? with_separators(distinct) + " workloads"
                                : fmt::format("no workload yet ({})", progress.why_none),
      size_text(progress.disk), size_text(disk_budget),
      progress.is_frozen ? ", engine frozen" : "");
}

// How far the var axes of each definition were spread.
std::string coverage(const SanitizeOutcome& outcome) {
  std::string text;
  for (const DefinitionOutcome& definition : outcome.definitions)
    if (!definition.ranges.empty())
      text += definition.definition->name + "\n" +
              wrap(describe_ranges(*definition.definition, definition.ranges, " to "), 80, "    ");
  return text.empty() ? text : "Observed range of each var axis\n" + text;
}

// Shows a collection while it goes on.
class Display final : public CollectObserver {
 public:
  Display(const CommonArguments& common, std::filesystem::path trace_dir)
      : console_(common), progress_(common.is_quiet), trace_dir_(std::move(trace_dir)) {}

  void note(const std::string& text) override {
    progress_.clear();
    console_.note(text);
  }
  void done(const std::string& text) override { console_.done(text); }
  void command(const std::string& text) override { console_.command(text); }
  bool confirms(const std::string& question) override { return asks_for_yes(question); }

  void planned(const CapturePlan& plan) override {
    console_.title("Plan");
    std::map<std::pair<std::string, std::string>, std::vector<std::string>> unreachable;
    std::size_t of_others = 0;
    for (const Unreachable& item : plan.engine.unreachable)
      if (item.is_of_others && plan.takes_all)
        ++of_others;  // as expected
      else
        unreachable[{item.why, item.reach}].push_back(item.definition->name);
    if (of_others > 0)
      console_.note(
          fmt::format("{} other definitions have shapes that this model does not call "
                      "(--dry-run --json lists them)",
                      of_others));
    for (const auto& [reason, names] : unreachable)
      console_.note(fmt::format("{} cannot be reached: {}{}", fmt::join(names, ", "), reason.first,
                                reason.second.empty() ? "" : ". What helps: " + reason.second));
  }

  void prepared(const CapturePlan& plan) override {
    const auto& runs = plan.engine.runs;
    for (std::size_t i = 0; i < runs.size(); ++i) show_planned(plan, runs[i], i);
    plan_ = plan_json(plan);
    is_simulated_ = plan.is_simulated();
  }

  void starting(const RunView& run) override {
    console_.title(fmt::format("Run {} of {}: engine", run.index + 1, run.count));
    console_.command(printable({run.command.arguments}));
    console_.text("    log: " + run.log.string() + "\n");
  }
  void loading(const std::string& line) override {
    progress_.update("loading: " + line.substr(0, max_log_line));
  }
  void ready(const RunView& run, double seconds) override {
    progress_.clear();
    console_.done(fmt::format("ready after {:.1f} s at {}", seconds, run.url));
    console_.title(fmt::format("Run {} of {}: traffic", run.index + 1, run.count));
  }
  void running(const RunView& run, const CollectProgress& progress) override {
    progress_.update(progress_line(progress, run.disk_budget), live_table(progress.definitions));
  }
  void ended(const RunView& run, const EngineRunOutcome& outcome) override;

  Console& console() { return console_; }
  ProgressLine& progress() { return progress_; }
  const Json& plan() const { return plan_; }

 private:
  void show_planned(const CapturePlan& plan, const EngineRun& run, std::size_t index);
  static Json plan_json(const CapturePlan& plan);

  Console console_;
  ProgressLine progress_;
  const std::filesystem::path trace_dir_;
  Json plan_;
  bool is_simulated_ = false;
};

void Display::show_planned(const CapturePlan& plan, const EngineRun& run, std::size_t index) {
  console_.text(
      fmt::format("\nRun {} of {}: {}{}\n", index + 1, plan.engine.runs.size(),
                  run.model_path.empty() ? "the given command" : run.model_path,
                  run.tensor_parallel > 1 ? fmt::format(", tp {}", run.tensor_parallel) : ""));
  for (const Definition* definition : run.definitions)
    console_.text("    " + definition->name + "\n");
  if (!plan.is_simulated()) console_.text(wrap(describe_room(plan, run), 80, "  "));
  cw::Command shown = run.command;
  shown.arguments = fill_in(shown.arguments, {{"host", plan.host}, {"port", "PORT"}});
  console_.command(printable(shown));
  console_.text("    " + plan.method->summary(plan.needs_of(run), plan.capture) + "\n");
}

// What would be run, for other tools.
Json Display::plan_json(const CapturePlan& plan) {
  Json runs = Json::array(), unreachable = Json::array();
  for (const EngineRun& run : plan.engine.runs) {
    Json definitions = Json::array();
    for (const Definition* definition : run.definitions) definitions.push_back(definition->name);
    runs.push_back({{"definitions", std::move(definitions)},
                    {"model", run.model_path},
                    {"tensor_parallel", run.tensor_parallel},
                    {"expert_parallel", run.expert_parallel},
                    {"weight_bytes", run.weight_bytes ? Json(*run.weight_bytes) : Json()},
                    {"kv_bytes_per_token", run.kv_bytes ? Json(*run.kv_bytes) : Json()},
                    {"compute_capability", run.compute_capability},
                    {"command", redact(run.command.arguments)}});
  }
  for (const Unreachable& item : plan.engine.unreachable)
    unreachable.push_back(
        {{"definition", item.definition->name}, {"why", item.why}, {"reach", item.reach}});
  return {{"runs", std::move(runs)}, {"unreachable", std::move(unreachable)}};
}

void Display::ended(const RunView& run, const EngineRunOutcome& outcome) {
  progress_.clear();
  if (outcome.traffic.sent > 0) console_.text(describe(outcome.traffic) + "\n");
  if (outcome.is_saturated) console_.done("saturated: nothing new for any definition");
  console_.done(fmt::format(
      "engine stopped; peak capture size on disk: {}{}", size_text(outcome.peak_disk),
      outcome.times_frozen > 0 ? fmt::format(", engine frozen {} times", outcome.times_frozen)
                               : ""));
  if (!outcome.why_nothing.empty())
    console_.note(
        fmt::format("{}. See {} for what was started. --capture level10 needs only "
                    "FlashInfer",
                    outcome.why_nothing, run.log.string()));

  console_.title("Workloads");
  std::vector<std::string> names;
  for (const Definition* definition : run.run->definitions) names.push_back(definition->name);
  console_.text(describe(outcome.sanitized, names));
  console_.text("\n" + coverage(outcome.sanitized));
  console_.text(
      next_steps(outcome.sanitized, {.trace_dir = trace_dir_,
                                     .is_simulated = is_simulated_,
                                     .capture = run.keeps_dumps ? run.dumps.string() : ""}));
  if (run.keeps_dumps) console_.text("The dumps are kept in\n  " + run.dumps.string() + "\n");
}

class CollectCommand final : public Command {
 public:
  std::string name() const override { return "collect"; }
  std::string description() const override {
    return "Run an engine under traffic, collect workloads";
  }

  void declare(Options& options) override {
    CaptureRequest& capture = request_.capture;
    add_dataset(options, capture.trace_dir, "The dataset, with its definitions");
    add_definitions(options, capture.definition_names, capture.op_types);
    add_selection(options, request_.sanitize);
    options.flag("--all", capture.takes_all, "Every definition an engine here can reach")
        .excludes("--definition-name")
        .excludes("--op-type");
    add_engine(options, capture, request_.dump_dir);
    traffic_.declare(options);

    // Where the engine listens, and where things are put.
    options.value("--host", capture.host, "Engine's listen address").shows_default().meta("ADDR");
    options.value("--port", capture.port, "Engine's listen port (default: a free one)")
        .range(0, 65535)
        .meta("N");
    options.value("--work-dir", request_.work_dir, "Folder for logs and dumps").meta("DIR");
    options.size("--disk-budget", request_.disk_budget, "Limit on the disk space of dumps")
        .shows("10GB")
        .meta("SIZE");
    options.flag("--keep-dumps", request_.keeps_dumps, "Do not delete dumps");

    // How long it goes on.
    options.flag("--until-saturated,!--all-prompts", request_.until_saturated,
                 "Stop early once nothing new turns up (default),\nor send all prompts regardless");
    options
        .choice<bool>(
            "--via", request_.uses_engine_client,
            {{"own", false}, {"engine", true}, {"bench_serving", true}},
            "Client to use: ours, or the engine's own, also\nby its old name bench_serving")
        .shows("own");
    options.value("--start-limit", request_.start_limit, "Seconds the engine may take to get ready")
        .shows_default()
        .meta("S");
    options.value("--hang-limit", request_.hang_limit, "Give up after S seconds with no activity")
        .shows_default()
        .meta("S");
    options.flag("--dry-run", request_.is_dry_run, "Show the plan and exit");
    options
        .shown("--resume", "Resume the interrupted run in this --work-dir\n(default: the last one)")
        .meta("DIR");
    options.let_last_win();  // whoever resumes may give a flag again
  }

  /// `collect --resume [DIR] …`: the words of the collection in DIR, and then the rest.
  Result<std::vector<std::string>> expand(std::vector<std::string> words) override {
    constexpr std::string_view with_value = "--resume=";
    auto flag = std::ranges::find_if(words, [&](const std::string& word) {
      return word == "--resume" || word.starts_with(with_value);
    });
    if (flag == words.end()) return request_.words = words;

    if (flag->starts_with(with_value)) {
      const std::string folder = flag->substr(with_value.size());
      *flag = "--resume";
      flag = words.insert(flag + 1, folder) - 1;
    }
    const bool has_folder = flag + 1 != words.end() && !(flag + 1)->starts_with("-");
    if (has_folder) request_.work_dir = *(flag + 1);
    CW_TRY(std::vector<std::string> all, resumed_words(request_.work_dir, words));
    all.insert(all.end(), words.begin() + 1, flag);
    all.insert(all.end(), flag + (has_folder ? 2 : 1), words.end());
    request_.resumes = true;
    return request_.words = all;
  }

  int run(const CommonArguments& common) override {
    watch_signals();
    request_.capture.bindings = common.bindings;
    request_.traffic = traffic_.request();
    request_.sanitize.slowness = slowness_for_tests();
    request_.may_ask =
        !common.is_quiet && ::isatty(STDIN_FILENO) != 0 && ::isatty(STDERR_FILENO) != 0;
    Display display(common, request_.capture.trace_dir);
    const auto outcome = collect(request_, display);
    display.progress().clear();
    if (!outcome) return report_failure(outcome.error());
    return request_.is_dry_run ? report_plan(*outcome, display, common)
                               : report_outcome(*outcome, display, common);
  }

 private:
  static int report_failure(const CollectFailure& failure) {
    const std::string& code = failure.error.code;
    if (code == "unreachable")
      return print_error(failure.error, "The lines above say why, and what would help.");
    if (code == "dataset_unwritten")
      return print_error(
          failure.error,
          "What was collected is kept. Once that is fixed, write it with\n  " + failure.resume);
    return print_error(failure.error);
  }

  static int report_plan(const CollectOutcome& outcome, Display& display,
                         const CommonArguments& common) {
    display.console().text("\nNothing was started (--dry-run).\n");
    if (common.is_json) print_json(display.plan());
    return outcome.failure ? print_error(*outcome.failure) : exit_success;
  }

  int report_outcome(const CollectOutcome& outcome, Display& display,
                     const CommonArguments& common) const {
    int status = outcome.kept > 0 || outcome.has_complete_runs || outcome.was_complete
                     ? exit_success
                     : exit_no_workloads;
    if (outcome.failure)
      status = print_error(*outcome.failure,
                           "What was collected so far is kept. Resume with\n  " + outcome.resume);
    if (common.is_json) print_json(Json(outcome.sections));
    if (!outcome.is_interrupted) return status;

    display.console().note(
        fmt::format("interrupted; {}. Resume with\n  {}",
                    outcome.sections.empty()
                        ? "nothing has been collected yet"
                        : "what was collected is in " + request_.capture.trace_dir.string(),
                    outcome.resume));
    return exit_interrupted;
  }

  CollectRequest request_;
  TrafficArguments traffic_;
};

}  // namespace

std::unique_ptr<Command> make_collect() {
  return std::make_unique<CollectCommand>();
}

}  // namespace cw::cli
