#include "cli/main.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <optional>
#include <sstream>
#include <tuple>

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>
#include <tbb/global_control.h>

#include "base/console.h"
#include "base/file.h"
#include "cli/built_in_skill.h"
#include "cli/commands.h"
#include "cli/manual.h"

namespace cw::cli {
namespace {

constexpr const char* footer =
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 no workloads.\n"
    "Results go to stdout, progress and errors to stderr.";

// Validators describe themselves in the help, at length; the type names say enough.
CLI::Validator silent(CLI::Validator validator) {
  return validator.description("");
}

// CLI11's own says what each name stands for inside the program.
template <typename Value>
CLI::Validator one_of(const std::map<std::string, Value>& names) {
  const auto replace = [names](std::string& text) -> std::string {
    const auto found = names.find(text);
    if (found == names.end()) {
      std::vector<std::string> all;
      for (const auto& [name, value] : names) all.push_back(name);
      return fmt::format("'{}' is none of {}", text, fmt::join(all, ", "));
    }
    text = std::to_string(static_cast<int>(found->second));
    return {};
  };
  return CLI::Validator(replace, "");
}

// "64" or "16-256"; nothing when it is neither, or not of positive numbers in order.
std::optional<std::pair<std::int64_t, std::int64_t>> to_range(const std::string& text) {
  std::pair<std::int64_t, std::int64_t> range;
  const char* const end = text.data() + text.size();
  auto parsed = std::from_chars(text.data(), end, range.first);
  range.second = range.first;
  if (parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == '-')
    parsed = std::from_chars(parsed.ptr + 1, end, range.second);
  if (parsed.ec != std::errc() || parsed.ptr != end || range.first < 1 ||
      range.second < range.first)
    return std::nullopt;
  return range;
}

constexpr std::int64_t most_input_tokens = 16 << 20;

// "Name: value" (RFC 9110): a name of letters, digits and hyphens, a value in one line.
std::optional<std::pair<std::string, std::string>> to_header(const std::string& line) {
  const std::size_t colon = line.find(':');
  if (colon == 0 || colon == std::string::npos || line.find_first_of("\r\n") != std::string::npos)
    return std::nullopt;
  const std::string name = line.substr(0, colon);
  const auto may_stand = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
  };
  if (!std::all_of(name.begin(), name.end(), may_stand)) return std::nullopt;
  const std::size_t value = line.find_first_not_of(" \t", colon + 1);
  return std::pair(name, value == std::string::npos ? std::string() : line.substr(value));
}

const CLI::Validator header_value(
    [](std::string& text) {
      return text.find_first_of("\r\n") == std::string::npos ? "" : "it has a line's end";
    },
    "");

void add_selection(CLI::App* command, SanitizeOptions& options) {
  command->add_option("--definition-name", options.definition_names, "Only these definitions")
      ->type_name("NAME");
  command->add_option("--op-type", options.op_types, "Only definitions of these op types")
      ->type_name("TYPE");
  command->add_option("--select", options.selection, "Which distinct workloads to keep")
      ->transform(one_of<Selection>({{"all", Selection::all}, {"diverse", Selection::diverse}}))
      ->default_str("diverse")
      ->type_name("all|diverse");
  command->add_option("--num-samples", options.num_samples, "diverse: at most so many a definition")
      ->check(silent(CLI::Range(1, 1'000'000)))
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option(
          "--num-pages", options.policy.pool_size,
          "Page pool: highest page used + 1, the engine's,\nor only pages in use, renumbered")
      ->transform(one_of<PoolSize>(
          {{"used", PoolSize::used}, {"pool", PoolSize::pool}, {"compact", PoolSize::compact}}))
      ->default_str("used")
      ->type_name("used|pool|compact");
  command->add_flag("--include-suspicious", options.includes_suspicious,
                    "Also calls that look like an engine's\nwarm-up; they are marked");
  command->add_option("--keep-values", options.policy.keep_values, "Store these inputs' values too")
      ->type_name("INPUT");
  command
      ->add_option_function<std::uint64_t>(
          "--random-below",
          [&options](std::uint64_t bytes) { options.policy.random_below = bytes; },
          "Store inputs of BYTES and more, as older\ncollections do")
      ->check(silent(CLI::NonNegativeNumber))
      ->type_name("BYTES");
}

void add_dataset(CLI::App* command, std::filesystem::path& trace_dir) {
  command->add_option("--trace-dir", trace_dir, "The dataset, with its definitions")
      ->required()
      ->type_name("DIR");
}

CLI::App* add_sanitize(CLI::App& app, SanitizeArguments& arguments) {
  CLI::App* command =
      app.add_subcommand("sanitize", "Turn level-10 dumps into workloads of a dataset");
  SanitizeOptions& options = arguments.options;
  command->add_option("--dumps", arguments.dumps, "Folders of dumps, or folders above them")
      ->required()
      ->type_name("DIR");
  add_dataset(command, arguments.trace_dir);
  add_selection(command, options);
  command->add_flag("--dry-run", options.is_dry_run, "Write nothing");
  return command;
}

CLI::App* add_inspect(CLI::App& app, InspectArguments& arguments) {
  CLI::App* command =
      app.add_subcommand("inspect", "Show what was captured, what fits and what not");
  command->add_option("path", arguments.paths, "Folders of dumps, one call, or a tensor file")
      ->required()
      ->type_name("PATH");
  command->add_option("--trace-dir", arguments.trace_dir, "A dataset with the definitions to try")
      ->type_name("DIR");
  return command;
}

CLI::App* add_validate(CLI::App& app, ValidateArguments& arguments) {
  CLI::App* command =
      app.add_subcommand("validate", "Check a dataset: definitions, workloads, blobs");
  command->add_option("--trace-dir", arguments.trace_dir, "The dataset")
      ->required()
      ->type_name("DIR");
  return command;
}

CLI::App* add_merge(CLI::App& app, MergeArguments& arguments) {
  CLI::App* command = app.add_subcommand("merge", "Join datasets: shards, models, hosts");
  command->add_option("dataset", arguments.inputs, "The datasets")->required()->type_name("DIR");
  command->add_option("--out", arguments.output, "The new dataset")->required()->type_name("DIR");
  command
      ->add_option("--num-samples", arguments.options.num_samples,
                   "Choose at most so many a definition, as sanitize\ndoes; what is not chosen is "
                   "gone (default: all)")
      ->check(silent(CLI::Range(1, 1'000'000)))
      ->type_name("N");
  command->add_flag("--dry-run", arguments.options.is_dry_run, "Compare, and write nothing");
  return command;
}

CLI::App* add_report(CLI::App& app, ReportArguments& arguments) {
  CLI::App* command = app.add_subcommand("report", "A page, or Markdown, on what a dataset holds");
  command->add_option("--trace-dir", arguments.trace_dir, "The dataset")
      ->required()
      ->type_name("DIR");
  command
      ->add_option("--out", arguments.output,
                   "File to write (default: report.html; Markdown\nand JSON go to stdout)")
      ->type_name("FILE");
  command->add_option("--format", arguments.format, "A page that works offline, or Markdown")
      ->transform(
          one_of<ReportFormat>({{"html", ReportFormat::html}, {"md", ReportFormat::markdown}}))
      ->default_str("html")
      ->type_name("html|md");
  command
      ->add_option("--against", arguments.against, "The dataset it is meant for: shows what is new")
      ->type_name("DIR");
  command->add_option("--definition-name", arguments.definition_names, "Only these definitions")
      ->type_name("NAME");
  return command;
}

CLI::App* add_verify(CLI::App& app, VerifyArguments& arguments) {
  CLI::App* command = app.add_subcommand("verify", "Load and run every workload; replay dumps");
  VerifyOptions& options = arguments.options;
  command->add_option("--trace-dir", options.root, "The dataset; gets a verification.json")
      ->required()
      ->type_name("DIR");
  command->add_option("--definition-name", options.definition_names, "Only these definitions")
      ->type_name("NAME");
  command->add_option("--op-type", options.op_types, "Only definitions of these op types")
      ->type_name("TYPE");
  command->add_option("--python", options.python, "Has flashinfer-bench and PyTorch")
      ->capture_default_str()
      ->type_name("PATH");
  command->add_option("--venv", arguments.venv, "Virtual environment that has them")
      ->excludes("--python")
      ->type_name("DIR");
  command->add_flag("--reference,!--no-reference", options.runs_reference,
                    "Run each through its definition's reference\nwhere it has one (default)");
  command
      ->add_option("--device", options.device, "cpu, cuda, cuda:1, …; auto: a GPU if there is one")
      ->capture_default_str()
      ->type_name("NAME");
  command->add_option("--limit", options.limit_seconds, "Seconds that one workload may take")
      ->check(silent(CLI::Range(1, 1'000'000)))
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option("--dumps", options.dumps,
                   "Run these dumps again with flashinfer replay,\nand compare the outputs")
      ->type_name("DIR");
  command
      ->add_option("--engine-python", options.engine_python,
                   "Has FlashInfer, for --dumps (default: --python)")
      ->type_name("PATH");
  return command;
}

// "owner/name", as the Hub has them.
std::string check_repo(const std::string& text) {
  const std::size_t slash = text.find('/');
  const bool is_plain = text.find_first_not_of(
                            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./") ==
                        std::string::npos;
  if (is_plain && slash != std::string::npos && slash > 0 && slash + 1 < text.size() &&
      text.find('/', slash + 1) == std::string::npos)
    return "";
  return "'" + text + "' is no dataset of the Hub: OWNER/NAME";
}

CLI::App* add_submit(CLI::App& app, SubmitArguments& arguments) {
  CLI::App* command = app.add_subcommand("submit", "Offer new workloads as a pull request");
  SubmitOptions& options = arguments.options;
  command->add_option("--trace-dir", options.root, "The dataset")->required()->type_name("DIR");
  CLI::Option* repo = command->add_option("--repo", options.repo, "Dataset of the Hugging Face Hub")
                          ->check(silent(CLI::Validator(check_repo, "")))
                          ->capture_default_str()
                          ->type_name("OWNER/NAME");
  command
      ->add_option("--remote", options.remote,
                   "A git remote instead: pushes a branch\nworkloads-YYYYMMDD-OP_TYPE")
      ->excludes(repo)
      ->type_name("URL");
  command->add_option("--pr", options.pull_request, "Add to this pull request of the Hub")
      ->check(silent(CLI::Range(1, 1'000'000'000)))
      ->excludes("--remote")
      ->type_name("N");
  command->add_option("--definition-name", options.definition_names, "Only these definitions")
      ->type_name("NAME");
  command->add_option("--op-type", options.op_types, "Only definitions of these op types")
      ->type_name("TYPE");
  command->add_flag("--allow-unverified", options.allows_unverified,
                    "Offer what verify has not passed");
  command->add_flag("--dry-run", options.is_dry_run,
                    "Show title, description and files; send nothing");
  return command;
}

void add_traffic(CLI::App* command, TrafficArguments& traffic) {
  command
      ->add_option("--prompts", traffic.prompts,
                   "ShareGPT, OpenAI's, WildChat, Alpaca, JSON lines,\nMooncake and others; a file "
                   "or a folder of them")
      ->type_name("PATH");
  command
      ->add_option("--turns", traffic.turns,
                   "Of a conversation: its first question, its last,\nor all, each with what was "
                   "said before")
      ->transform(
          one_of<Turns>({{"first", Turns::first}, {"last", Turns::last}, {"all", Turns::all}}))
      ->default_str("first")
      ->type_name("first|last|all");
  command->add_flag("--random-prompts", traffic.uses_random_prompts,
                    "Random tokens instead of text");
  command
      ->add_option_function<std::string>(
          "--input-tokens",
          [&traffic](const std::string& text) {
            const auto range = to_range(text);
            if (!range || range->second > most_input_tokens)
              throw CLI::ValidationError("--input-tokens",
                                         text + " is neither a length nor a range as 16-2048");
            std::tie(traffic.random.input_low, traffic.random.input_high) = *range;
          },
          "Random prompts: the length of all, or the range\nthat lengths are drawn from (default: "
          "16-2048)")
      ->type_name("N|LOW-HIGH");
  command
      ->add_option(
          "--num-prompts", traffic.num_prompts,
          "How many requests; a file with fewer is sent\nagain (default: a file's, at most 1000)")
      ->check(silent(CLI::Range(1, 1'000'000'000)))
      ->type_name("N");
  command
      ->add_option("--concurrency", traffic.concurrency,
                   "Requests at a time (default: all at once)")
      ->check(silent(CLI::Range(0, 65'536)))
      ->type_name("N");
  command->add_option("--request-rate", traffic.request_rate, "Poisson arrivals a second")
      ->type_name("R");
  command
      ->add_flag("--trace-arrivals", traffic.follows_arrivals,
                 "Send when the file says (Mooncake, BurstGPT)")
      ->excludes("--request-rate");
  command->add_option("--sweep", traffic.sweep, "Concurrencies one after the other: 1,2,4,8")
      ->delimiter(',')
      ->check(silent(CLI::Range(1, 65'536)))
      ->type_name("N,N,…");
  command->add_option("--sweep-rounds", traffic.sweep_rounds, "Sweep: requests per place and size")
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option_function<std::string>(
          "--output-tokens",
          [&traffic](const std::string& text) {
            const auto range = to_range(text);
            if (!range)
              throw CLI::ValidationError("--output-tokens",
                                         text + " is neither a length nor a range as 16-256");
            traffic.options.output_tokens = range;
          },
          "Length of every answer, or the range that\nlengths are drawn from (default: the data's)")
      ->type_name("N|LOW-HIGH");
  command
      ->add_option("--max-output-tokens", traffic.options.most_output_tokens, "No answer is longer")
      ->check(silent(CLI::PositiveNumber))
      ->capture_default_str()
      ->type_name("N");
  command->add_option("--endpoint", traffic.endpoint, "API to speak (default: what the server has)")
      ->transform(one_of<Endpoint>({{"generate", Endpoint::generate},
                                    {"completions", Endpoint::completions},
                                    {"chat", Endpoint::chat}}))
      ->type_name("generate|completions|chat");
  command->add_option("--api-key", traffic.api_key, "The server's (also OPENAI_API_KEY)")
      ->check(silent(header_value))
      ->type_name("KEY");
  command
      ->add_option_function<std::vector<std::string>>(
          "--header",
          [&traffic](const std::vector<std::string>& lines) {
            for (const std::string& line : lines) {
              const auto header = to_header(line);
              if (!header)
                throw CLI::ValidationError("--header",
                                           "'" + line + "' is no header: write 'Name: value'");
              traffic.options.headers.push_back(*header);
            }
          },
          "Of every request; may be repeated")
      ->type_name("'NAME: VALUE'");
  command->add_flag("!--no-ignore-eos", traffic.options.ignores_end,
                    "Answers end where the model ends them");
  command
      ->add_option_function<double>(
          "--temperature", [&traffic](double t) { traffic.options.temperature = t; },
          "Of every request")
      ->type_name("T");
  command
      ->add_option_function<double>(
          "--top-p", [&traffic](double p) { traffic.options.top_p = p; }, "Of every request")
      ->type_name("P");
  command
      ->add_option_function<std::int64_t>(
          "--top-k", [&traffic](std::int64_t k) { traffic.options.top_k = k; }, "Of every request")
      ->type_name("K");
  command
      ->add_option_function<std::uint64_t>(
          "--seed",
          [&traffic](std::uint64_t seed) { traffic.options.seed = traffic.random.seed = seed; },
          "Of arrivals and random prompts")
      ->type_name("N");
}

void add_recorder(CLI::App* command, RecorderArguments& recorder) {
  command->add_option("--record-budget", recorder.budget, "A process's recording is never larger")
      ->check(silent(
          CLI::Range(std::uint64_t{4096}, std::uint64_t{1} << 60)))  // of what the transform makes
      ->transform(silent(CLI::AsSizeValue(true)))
      ->default_str("1GB")
      ->type_name("SIZE");
  command
      ->add_option("--recorder-rules", recorder.rules,
                   "What is hooked, instead of the built-in rules")
      ->type_name("FILE");
}

void add_engine(CLI::App* command, CollectArguments& arguments) {
  EngineArguments& engine = arguments.engine;
  command->add_option("--engine", engine.engine, "sglang, vllm or simulated")
      ->capture_default_str()
      ->type_name("NAME");
  command->add_option("--model-name", engine.model_name, "Model instead of the recipes'")
      ->type_name("MODEL");
  command
      ->add_option("--tp", engine.tensor_parallel,
                   "Tensor parallel size (default: the\ndefinition's)")
      ->type_name("N");
  command
      ->add_option("--engine-args", engine.engine_flags, "More flags for the engine, in one word")
      ->type_name("ARGS");
  command
      ->add_option("--launch-command", engine.launch_command,
                   "Any engine, as in a shell, NAME=value in front\ntoo: {host} and {port} are "
                   "replaced; without "
                   "them\nits --port, or SGLang's 30000 and vLLM's 8000")
      ->type_name("CMD");
  command
      ->add_option(
          "--sglang-path", engine.sglang_path,
          "SGLang's checkout, to be brought up to date\nand installed into the engine's Python")
      ->type_name("DIR");
  command->add_flag("!--no-update", engine.updates, "Use the checkout as it is");
  command
      ->add_option("--conda-env", engine.conda_env,
                   "The engine's conda environment (default:\nflashinfer if it is there)")
      ->type_name("NAME");
  command->add_option("--venv", engine.venv, "The engine's virtual environment")->type_name("DIR");
  command->add_option("--python", engine.python, "The engine's Python")->type_name("FILE");
  command->add_option("--recipes", engine.recipes, "Recipes instead of the built-in ones")
      ->type_name("FILE");
  command
      ->add_option("--capture", arguments.capture,
                   "Our recorder, at full speed (default), or\nFlashInfer's dumps at level 10")
      ->transform(one_of<CaptureKind>(
          {{"recorder", CaptureKind::recording}, {"level10", CaptureKind::level10}}))
      ->type_name("recorder|level10");
  add_recorder(command, arguments.recorder);
  command
      ->add_option("--include", arguments.include,
                   "Functions to dump, instead of what the\ndefinitions need")
      ->type_name("PATTERN");
  command->add_option("--exclude", arguments.exclude, "Functions not to dump")
      ->type_name("PATTERN");
  command
      ->add_option_function<std::uint64_t>(
          "--max-count", [&arguments](std::uint64_t n) { arguments.max_count = n; },
          "FlashInfer's limit of calls")
      ->type_name("N");
  command
      ->add_option_function<std::uint64_t>(
          "--max-size-gb", [&arguments](std::uint64_t n) { arguments.max_size_gb = n; },
          "FlashInfer's limit of bytes")
      ->type_name("GB");
  command->add_option("--dump-dir", arguments.dump_dir, "Where dumps go")->type_name("DIR");
}

CLI::App* add_record(CLI::App& app, RecordArguments& arguments) {
  CLI::App* command = app.add_subcommand("record", "Any command, with its calls recorded");
  command
      ->add_option("-o,--output", arguments.folder, "The recording (default: recording-TIME here)")
      ->type_name("DIR");
  add_recorder(command, arguments.recorder);
  command->add_flag("--keep-values", arguments.recorder.keeps_values,
                    "Keep the values of floats that steer kernels\ntoo: top_p, routing_logits");
  command
      ->add_option("--only", arguments.only,
                   "Only these functions, as inspect names them:\nwhat is not hooked costs nothing")
      ->type_name("NAME");
  command->footer(
      "Ends as the command does: with its exit status, or by the signal that ended it.\n"
      "1 when it could not be started, 2 wrong usage. Its output goes where it would\n"
      "without us, and signals sent to us reach it.");
  command->add_option("COMMAND", arguments.command, "After --, as you would type it")
      ->type_name("COMMAND");
  return command;
}

CLI::App* add_collect(CLI::App& app, CollectArguments& arguments) {
  CLI::App* command =
      app.add_subcommand("collect", "Engine, traffic, capture and workloads in one");
  add_dataset(command, arguments.trace_dir);
  add_selection(command, arguments.options);
  command->add_flag("--all", arguments.takes_all, "Every definition that an engine here reaches")
      ->excludes("--definition-name")
      ->excludes("--op-type");
  add_engine(command, arguments);
  add_traffic(command, arguments.traffic);
  command->add_option("--host", arguments.address.host, "Where the engine listens")
      ->capture_default_str()
      ->type_name("ADDR");
  command->add_option("--port", arguments.address.port, "Likewise (default: one that is free)")
      ->check(silent(CLI::Range(0, 65535)))
      ->type_name("N");
  command->add_option("--work-dir", arguments.work_dir, "Logs and dumps of the runs")
      ->type_name("DIR");
  command->add_option("--disk-budget", arguments.disk_budget, "Dumps never take more")
      ->transform(silent(CLI::AsSizeValue(true)))
      ->default_str("10GB")
      ->type_name("SIZE");
  command->add_flag("--keep-dumps", arguments.keeps_dumps, "Do not delete dumps");
  command->add_flag("--until-saturated,!--all-prompts", arguments.until_saturated,
                    "End early when nothing new comes (default),\nor send all prompts in any case");
  command
      ->add_option("--via", arguments.uses_bench_serving,
                   "The client: ours, or SGLang's bench_serving")
      ->transform(one_of<bool>({{"own", false}, {"bench_serving", true}}))
      ->default_str("own")
      ->type_name("own|bench_serving");
  command
      ->add_option("--start-limit", arguments.start_limit, "Seconds until the engine must be ready")
      ->capture_default_str()
      ->type_name("S");
  command->add_option("--hang-limit", arguments.hang_limit, "Seconds without any sign of life")
      ->capture_default_str()
      ->type_name("S");
  command->add_flag("--dry-run", arguments.is_dry_run, "Show the plan and end");
  // Taken by with_resumed() before anything is parsed.
  command
      ->add_option(
          "--resume",
          "Go on with an interrupted run, which has this\n--work-dir (default: the last one)")
      ->type_name("DIR");
  return command;
}

CLI::App* add_env(CLI::App& app, CollectArguments& arguments) {
  CLI::App* command = app.add_subcommand("env", "The variables that capture a definition's calls");
  add_dataset(command, arguments.trace_dir);
  command->add_option("--definition-name", arguments.options.definition_names, "These definitions")
      ->type_name("NAME");
  command->add_option("--op-type", arguments.options.op_types, "Definitions of these op types")
      ->type_name("TYPE");
  add_engine(command, arguments);
  return command;
}

CLI::App* add_serve(CLI::App& app, ServeArguments& arguments) {
  CLI::App* command = app.add_subcommand("serve", "The simulated engine alone");
  simulated::ServerOptions& options = arguments.options;
  using Fault = simulated::ServerOptions::Fault;
  using Kind = simulated::Misbehaviour::Kind;
  command
      ->add_option("--model-name,--model-path", options.model,
                   "A model of the recipes, or a folder with its\nconfig.json")
      ->required()
      ->type_name("MODEL");
  command->add_option("--host", arguments.address.host, "Where to listen")
      ->capture_default_str()
      ->type_name("ADDR");
  command->add_option("--port", arguments.address.port, "Likewise (default: 30000)")
      ->check(silent(CLI::Range(1, 65535)))
      ->type_name("N");
  command->add_option("--tp,--tp-size", arguments.tensor_parallel, "Tensor parallel size")
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option("--max-total-tokens", options.scheduler.max_total_tokens, "Size of the KV pool")
      ->check(silent(CLI::Range(64, 100'000'000)))
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option("--chunked-prefill-size", options.scheduler.chunked_prefill_size,
                   "Most tokens of a prefill step")
      ->check(silent(CLI::Range(1, 100'000'000)))
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option("--max-running-requests", options.scheduler.max_running,
                   "Most sequences of a decode step")
      ->check(silent(CLI::Range(1, 1'000'000)))
      ->capture_default_str()
      ->type_name("N");
  command->add_flag("!--disable-radix-cache", options.scheduler.has_prefix_cache,
                    "No prefix cache");
  command->add_flag("!--flashinfer-mla-disable-ragged", options.scheduler.uses_ragged_mla,
                    "MLA prefill over the pool");
  command
      ->add_option("--decode-step-ms", options.scheduler.decode_step_ms,
                   "How long a decode step takes")
      ->capture_default_str()
      ->type_name("MS");
  command
      ->add_option("--prefill-token-us", options.scheduler.prefill_token_us,
                   "How long a prefilled token takes")
      ->capture_default_str()
      ->type_name("US");
  command
      ->add_option("--health-seconds", options.health_seconds,
                   "How long /health takes (SGLang's makes a token)")
      ->capture_default_str()
      ->type_name("S");
  command->add_option("--load-seconds", options.load_seconds, "How long it loads")
      ->capture_default_str()
      ->type_name("S");
  command->add_option("--recipes", arguments.recipes, "Recipes instead of the built-in ones")
      ->type_name("FILE");
  command
      ->add_option_function<std::string>(
          "--misbehave",
          [&options](const std::string& kind) {
            options.fault = kind == "refuse"        ? Fault::refuse
                            : kind == "die-loading" ? Fault::die_loading
                            : kind == "500"         ? Fault::error_500
                            : kind == "garbage"     ? Fault::garbage
                                                    : Fault::none;
            options.misbehaviour.kind = kind == "die"         ? Kind::die
                                        : kind == "hang"      ? Kind::hang
                                        : kind == "fill-disk" ? Kind::fill_disk
                                        : kind == "half-dump" ? Kind::half_dump
                                                              : Kind::none;
          },
          "For tests: refuse, die-loading, 500, garbage,\nand at a step: die, hang, fill-disk, "
          "half-dump")
      ->check(silent(CLI::IsMember(
          {"refuse", "die-loading", "500", "garbage", "die", "hang", "fill-disk", "half-dump"})))
      ->type_name("HOW");
  command->add_option("--misbehave-after", options.misbehaviour.after, "The step")
      ->capture_default_str()
      ->type_name("N");
  return command;
}

CLI::App* add_drive(CLI::App& app, DriveArguments& arguments) {
  CLI::App* command = app.add_subcommand("drive", "Traffic alone, to an engine that runs");
  command->add_option("--url", arguments.url, "The engine")
      ->capture_default_str()
      ->type_name("URL");
  command->add_option("--model-name", arguments.traffic.options.model, "For the OpenAI endpoints")
      ->type_name("MODEL");
  add_traffic(command, arguments.traffic);
  return command;
}

CLI::App* add_watch(CLI::App& app, WatchArguments& arguments) {
  CLI::App* command = app.add_subcommand("watch", "Sanitize a capture while it is made");
  command->add_option("--dumps", arguments.dumps, "The folder of the dumps or recordings")
      ->required()
      ->type_name("DIR");
  add_dataset(command, arguments.trace_dir);
  add_selection(command, arguments.options);
  command->add_flag("--keep-dumps", arguments.keeps_dumps, "Do not delete dumps");
  command
      ->add_option("--until-idle", arguments.idle_limit, "End after so many seconds without a call")
      ->type_name("S");
  return command;
}

CLI::App* add_clean(CLI::App& app, CleanArguments& arguments) {
  CLI::App* command = app.add_subcommand("clean", "Remove what commands have left on the disk");
  command->add_flag("--all", arguments.includes_unfinished,
                    "Also what collect --resume or a printed env\nmay still be for");
  command->add_flag("--dry-run", arguments.is_dry_run, "List it, and remove nothing");
  command->footer(
      "Logs of finished runs, unpacked recorders, submissions that were to be sent by\n"
      "hand. They lie in $XDG_STATE_HOME/collect-workloads (~/.local/state) and\n"
      "$XDG_CACHE_HOME/collect-workloads (~/.cache). What is in use stays. A --work-dir\n"
      "of yours is yours.");
  return command;
}

// What the program says of itself to a shell, to man(1) and to a coding agent.
struct AboutArguments {
  Shell shell = Shell::bash;
  std::string manual;
};

CLI::App* add_completion(CLI::App& app, AboutArguments& arguments) {
  CLI::App* command = app.add_subcommand("completion", "A script that completes words in a shell");
  command->add_option("shell", arguments.shell, "The shell")
      ->required()
      ->transform(
          one_of<Shell>({{"bash", Shell::bash}, {"zsh", Shell::zsh}, {"fish", Shell::fish}}))
      ->type_name("bash|zsh|fish");
  command->footer("For bash:  source <(collect-workloads completion bash)");
  return command;
}

CLI::App* add_man(CLI::App& app, AboutArguments& arguments) {
  CLI::App* command = app.add_subcommand("man", "The manual page, or that of one command");
  command->add_option("command", arguments.manual, "One of the commands")->type_name("NAME");
  command->footer("To read it:  collect-workloads man collect | man -l -");
  return command;
}

int print_manual(const CLI::App& app, const std::string& name) {
  const auto commands =
      app.get_subcommands([&name](const CLI::App* command) { return command->get_name() == name; });
  if (commands.empty() && !name.empty())
    return report({"usage", "there is no command " + name}, "collect-workloads --help lists them.");
  print(stdout, manual_page(app, commands.empty() ? app : *commands.front()));
  return exit_success;
}

// `collect --resume [DIR] …`: the words of the run in DIR, and then the rest.
Result<std::vector<std::string>> with_resumed(std::vector<std::string> words,
                                              CollectArguments& arguments) {
  constexpr std::string_view with_value = "--resume=";
  auto flag = std::find_if(words.begin(), words.end(), [&](const std::string& word) {
    return word == "--resume" || word.starts_with(with_value);
  });
  if (words.empty() || words[0] != "collect" || flag == words.end()) return words;
  if (flag->starts_with(with_value)) {
    const std::string folder = flag->substr(with_value.size());
    *flag = "--resume";
    flag = words.insert(flag + 1, folder) - 1;
  }
  const bool has_folder = flag + 1 != words.end() && !(flag + 1)->starts_with("-");
  if (has_folder) arguments.work_dir = *(flag + 1);
  CW_TRY(std::vector<std::string> all, resumed_words(arguments.work_dir, words));
  all.insert(all.end(), words.begin() + 1, flag);
  all.insert(all.end(), flag + (has_folder ? 2 : 1), words.end());
  arguments.resumes = true;
  return all;
}

// "collect has no option --trace-dirs; did you mean --trace-dir?", or nothing.
std::string unknown_option(const CLI::App& app, const std::vector<std::string>& words) {
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  const auto command = std::find_if(commands.begin(), commands.end(), [&words](const CLI::App* c) {
    return !words.empty() && c->get_name() == words[0];
  });
  if (command == commands.end()) return {};
  std::vector<std::string> names;
  for (const CLI::Option* option : (*command)->get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string name = words[i].substr(0, words[i].find('='));
    const bool is_option =
        name.starts_with("--") && name.size() > 2 && name.find(' ') == std::string::npos;
    if (!is_option || std::find(names.begin(), names.end(), name) != names.end()) continue;
    const auto alike = [&name](const std::string& other) {
      return std::mismatch(name.begin(), name.end(), other.begin(), other.end()).first -
             name.begin();
    };
    const auto nearest =
        std::max_element(names.begin(), names.end(), [&alike](const auto& left, const auto& right) {
          return std::pair(alike(left), right.size()) < std::pair(alike(right), left.size());
        });
    return fmt::format("{} has no option {}{}", words[0], name,
                       nearest != names.end() && alike(*nearest) > 4
                           ? fmt::format("; did you mean {}?", *nearest)
                           : "");
  }
  return {};
}

void add_common(CLI::App* command, CommonArguments& common) {
  if (command->get_name() != "record")  // its stdout is the command's
    command->add_flag("--json", common.is_json, "The result as JSON on stdout");
  command->add_flag("-q,--quiet", common.is_quiet, "No progress");
  command->add_option("--threads", common.threads, "Threads to use (default: one a core)")
      ->check(silent(CLI::Range(1, 256)))
      ->type_name("N");
  command->add_option("--bindings", common.bindings, "Bindings instead of the built-in ones")
      ->type_name("FILE");
}

int run_command(int argc, char** argv) {
  keep_standard_streams();
  if (argc > 1 && std::string_view(argv[1]) == "submit")
    forbid_core_dumps();  // it has a token in its environment
  CLI::App app("Collects workloads for the flashinfer-trace dataset from real model runs.",
               "collect-workloads");
  app.footer(footer);
  app.set_version_flag("--version", std::string("collect-workloads ") + CW_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(32);

  CommonArguments common;
  SanitizeArguments sanitize_arguments;
  InspectArguments inspect_arguments;
  ValidateArguments validate_arguments;
  MergeArguments merge_arguments;
  SubmitArguments submit_arguments;
  ReportArguments report_arguments;
  VerifyArguments verify_arguments;
  CollectArguments collect_arguments, env_arguments;
  ServeArguments serve_arguments;
  DriveArguments drive_arguments;
  WatchArguments watch_arguments;
  RecordArguments record_arguments;
  CleanArguments clean_arguments;
  CLI::App* const collect = add_collect(app, collect_arguments);
  CLI::App* const record = add_record(app, record_arguments);
  CLI::App* const sanitize = add_sanitize(app, sanitize_arguments);
  CLI::App* const watch = add_watch(app, watch_arguments);
  CLI::App* const inspect = add_inspect(app, inspect_arguments);
  CLI::App* const validate = add_validate(app, validate_arguments);
  CLI::App* const merge = add_merge(app, merge_arguments);
  CLI::App* const report_command = add_report(app, report_arguments);
  CLI::App* const verify = add_verify(app, verify_arguments);
  CLI::App* const submit = add_submit(app, submit_arguments);
  CLI::App* const env = add_env(app, env_arguments);
  CLI::App* const serve = add_serve(app, serve_arguments);
  CLI::App* const drive = add_drive(app, drive_arguments);
  CLI::App* const clean = add_clean(app, clean_arguments);
  for (CLI::App* command : {collect, record, sanitize, watch, inspect, validate, merge,
                            report_command, verify, submit, env, serve, drive, clean})
    add_common(command, common);

  AboutArguments about;
  CLI::App* const completion = add_completion(app, about);
  CLI::App* const man = add_man(app, about);
  CLI::App* const skill = app.add_subcommand("skill", "How coding agents use it: a SKILL.md");

  std::vector<std::string> recorded, words(argv + 1, argv + argc);
  try {
    // Without a subcommand it is collect.
    if (!words.empty() && words[0].starts_with("--") && words[0] != "--help" &&
        words[0] != "--version")
      words.insert(words.begin(), "collect");
    const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
    const auto is_first_word = [&words](const CLI::App* command) {
      return command->get_name() == words[0];
    };
    if (!words.empty() && !words[0].starts_with("-") &&
        std::none_of(commands.begin(), commands.end(), is_first_word)) {
      report({"usage", "there is no command " + words[0]}, "collect-workloads --help lists them.");
      return exit_usage;
    }
    // The command to record is taken off first: after an option that takes several words the "--"
    // would only end that.
    if (const auto end = std::find(words.begin(), words.end(), "--");
        end != words.end() && words[0] == "record") {
      recorded.assign(end + 1, words.end());
      words.erase(end, words.end());
    }
    auto expanded = with_resumed(words, collect_arguments);
    if (!expanded) return report(expanded.error());
    collect_arguments.words = *expanded;
    std::reverse(expanded->begin(), expanded->end());
    // Whoever resumes may give a flag again.
    for (CLI::Option* option : collect->get_options())
      if (option->get_items_expected_max() == 1)
        option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    app.parse(std::move(*expanded));
    record_arguments.command.insert(record_arguments.command.end(), recorded.begin(),
                                    recorded.end());
    if (record->parsed() && record_arguments.command.empty()) throw CLI::RequiredError("COMMAND");
  } catch (const CLI::ParseError& error) {
    std::ostringstream out, err;
    const int status = app.exit(error, out, err) == 0 ? exit_success : exit_usage;
    if (status == exit_usage) {
      // A mistyped option says more than the one that is missing instead.
      if (const std::string unknown = unknown_option(app, words); !unknown.empty()) {
        report({"usage", unknown},
               fmt::format("collect-workloads {} --help lists its options.", words[0]));
        return exit_usage;
      }
    }
    print(stdout, out.str());
    print(stderr, err.str());
    if (status == exit_usage && record->parsed() && recorded.empty())
      print(stderr, "Give the command to record after --, as you would type it.\n");
    return status;
  }
  if (std::getenv("COLLECT_WORKLOADS_TEST_PARSE_ONLY") != nullptr) return exit_success;
  std::optional<tbb::global_control> limit;
  if (common.threads > 0)
    limit.emplace(tbb::global_control::max_allowed_parallelism, common.threads);
  try {
    if (sanitize->parsed()) return run_sanitize(sanitize_arguments, common);
    if (collect->parsed()) return run_collect(collect_arguments, common);
    if (record->parsed()) return run_record(record_arguments, common);
    if (watch->parsed()) return run_watch(watch_arguments, common);
    if (env->parsed()) return run_env(env_arguments, common);
    if (serve->parsed()) return run_serve(serve_arguments, common);
    if (drive->parsed()) return run_drive(drive_arguments, common);
    if (merge->parsed()) return run_merge(merge_arguments, common);
    if (report_command->parsed()) return run_report(report_arguments, common);
    if (verify->parsed()) return run_verify(verify_arguments, common);
    if (submit->parsed()) return run_submit(submit_arguments, common);
    if (completion->parsed())
      return print(stdout, completion_script(app, about.shell)), exit_success;
    if (man->parsed()) return print_manual(app, about.manual);
    if (skill->parsed()) return print(stdout, built_in_skill()), exit_success;
    if (clean->parsed()) return run_clean(clean_arguments, common);
    if (inspect->parsed()) return run_inspect(inspect_arguments, common);
    return run_validate(validate_arguments, common);
  } catch (const std::exception& error) {
    // Nothing below throws on purpose: out of memory, or a mistake of ours.
    return report({"internal", fmt::format("unexpected: {}", error.what())},
                  "Please report this with the command line and, if you can, the dumps.");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int status = run_command(argc, argv);
  const auto written = finish_output();
  return written ? status : report(written.error(), "What the command does besides is done.");
}

}  // namespace cw::cli
