#include "cli/shared_options.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <tuple>

#include <fmt/ranges.h>

namespace cw::cli {
namespace {

constexpr std::int64_t max_input_tokens = 16 << 20;
constexpr int max_samples = 1'000'000, max_requests = 1'000'000'000, max_concurrency = 65'536;

// "64" or "16-256"; nothing when it is neither, or not of positive numbers in order.
std::optional<std::pair<std::int64_t, std::int64_t>> to_range(const std::string& text) {
  std::pair<std::int64_t, std::int64_t> range;
  const char* const end = text.data() + text.size();
  auto parsed = std::from_chars(text.data(), end, range.first);
  range.second = range.first;
  if (parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == '-')
    parsed = std::from_chars(parsed.ptr + 1, end, range.second);
  const bool is_range = parsed.ec == std::errc() && parsed.ptr == end;
  if (!is_range || range.first < 1 || range.second < range.first) return std::nullopt;
  return range;
}

// "Name: value" (RFC 9110): a name of letters, digits and hyphens, a value in one line.
std::optional<std::pair<std::string, std::string>> to_header(const std::string& line) {
  const std::size_t colon = line.find(':');
  if (colon == 0 || colon == std::string::npos || line.find_first_of("\r\n") != std::string::npos)
    return std::nullopt;
  const std::string name = line.substr(0, colon);
  const auto may_stand = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
  };
  if (!std::ranges::all_of(name, may_stand)) return std::nullopt;
  const std::size_t value = line.find_first_not_of(" \t", colon + 1);
  return std::pair(name, value == std::string::npos ? std::string() : line.substr(value));
}

}  // namespace

Option add_dataset(Options& options, std::filesystem::path& trace_dir, const std::string& help) {
  return options.value("--trace-dir", trace_dir, help).required().meta("DIR");
}

void add_definitions(Options& options, std::vector<std::string>& names,
                     std::vector<std::string>& op_types, const std::string& of_names,
                     const std::string& of_op_types) {
  options.value("--definition-name", names, of_names).meta("NAME");
  options.value("--op-type", op_types, of_op_types).meta("TYPE");
}

void add_selection(Options& options, SanitizeOptions& sanitize) {
  options
      .choice<Selection>("--select", sanitize.selection,
                         {{"all", Selection::all}, {"diverse", Selection::diverse}},
                         "Which distinct workloads to keep")
      .shows("diverse");
  options.value("--num-samples", sanitize.num_samples, "diverse: keep at most N per definition")
      .range(1, max_samples)
      .shows_default()
      .meta("N");

  // What is stored of each workload.
  options
      .choice<NumPages>(
          "--num-pages", sanitize.policy.num_pages,
          {{"used", NumPages::used}, {"pool", NumPages::pool}, {"compact", NumPages::compact}},
          "Pool size: highest page used + 1, the engine's,\n"
          "or only the pages in use, renumbered")
      .shows("used");

  options.flag("--include-suspicious", sanitize.includes_suspicious,
               "Also keep calls that look like engine warm-up;\nthey are marked");
  options.value("--keep-values", sanitize.policy.keep_values, "Also store values of these inputs")
      .meta("INPUT");
  options
      .value("--random-below", sanitize.policy.random_below,
             "Store inputs of at least BYTES, as older\ncollections do")
      .not_negative()
      .meta("BYTES");
}

void add_recorder(Options& options, CaptureOptions& capture) {
  constexpr double min_budget = 4096, max_budget = static_cast<double>(std::uint64_t{1} << 60);
  options.size("--record-budget", capture.record_budget, "Maximum size of each process's recording")
      .range(min_budget, max_budget)
      .shows("1GB")
      .meta("SIZE");
  options
      .value("--recorder-rules", capture.recorder_rules,
             "Hook rules to use instead of the built-in ones")
      .meta("FILE");
}

void add_engine(Options& options, CaptureRequest& request, std::filesystem::path& dump_dir) {
  // Which one, and where it is installed.
  EngineChoice& engine = request.engine;
  options.value("--engine", engine.engine, "sglang, vllm or simulated")
      .shows_default()
      .meta("NAME");
  options.value("--model-name", engine.model_name, "Overrides the recipes' model").meta("MODEL");
  options.value("--tp", engine.tensor_parallel, "Tensor parallel size (default: the\ndefinition's)")
      .meta("N");
  options.value("--engine-args", engine.engine_flags, "More engine flags, quoted as one argument")
      .meta("ARGS");
  options
      .value("--launch-command", engine.launch_command,
             "Shell command that starts any engine, NAME=value\n"
             "in front allowed. {host} and {port} are replaced;\n"
             "else its --port, SGLang's 30000 or vLLM's 8000")
      .meta("CMD");
  options
      .value("--sglang-path", engine.sglang_path,
             "SGLang checkout to update and install into the\nengine's Python")
      .meta("DIR");
  options.flag("!--no-update", engine.updates_checkout, "Use the checkout as it is");
  options
      .value("--conda-env", engine.environment.conda_env,
             "The engine's conda environment (default:\nflashinfer, if it exists)")
      .meta("NAME");
  options.value("--venv", engine.environment.venv, "The engine's virtual environment").meta("DIR");
  options.value("--python", engine.environment.python, "The engine's Python").meta("FILE");
  options.value("--recipes", engine.recipes, "Recipes to replace the built-in ones").meta("FILE");

  // How its calls are captured.
  std::vector<std::string> names;
  for (const CaptureMethod* method : capture_methods()) names.emplace_back(method->name());
  const std::string words = fmt::format("{}", fmt::join(names, "|"));
  std::ranges::sort(names);
  options
      .parsed(
          "--capture",
          [&request, names](const std::string& name) {
            request.method = find_capture_method(name);
            if (request.method != nullptr) return std::string();
            return fmt::format("'{}' is not one of {}", name, fmt::join(names, ", "));
          },
          "Our recorder, at full speed (default), or\nFlashInfer's level-10 dumps")
      .meta(words);
  add_recorder(options, request.capture);
  options
      .value("--include", request.capture.include,
             "Functions to dump, instead of what the\ndefinitions need")
      .meta("PATTERN");
  options.value("--exclude", request.capture.exclude, "Functions not to dump").meta("PATTERN");
  options.value("--max-count", request.capture.max_count, "FlashInfer's limit on calls").meta("N");
  options.value("--max-size-gb", request.capture.max_size_gb, "FlashInfer's limit on dump size")
      .meta("GB");
  options.value("--dump-dir", dump_dir, "Where dumps go").meta("DIR");
}

void TrafficArguments::declare(Options& options) {
  declare_prompts(options);
  declare_schedules(options);
  declare_lengths(options);
  declare_server(options);
  declare_sampling(options);
}

// What is sent.
void TrafficArguments::declare_prompts(Options& options) {
  options
      .value("--prompts", request_.prompts,
             "ShareGPT, OpenAI, WildChat, Alpaca, JSON Lines,\n"
             "Mooncake and others; a file or a folder of files")
      .meta("PATH");

  options
      .choice<Turns>("--turns", request_.turns,
                     {{"first", Turns::first}, {"last", Turns::last}, {"all", Turns::all}},
                     "Which questions of a conversation to send, each\n"
                     "with everything said before it")
      .shows("first");

  // Or prompts without a text, by their lengths.
  options.flag("--random-prompts", request_.uses_random_prompts, "Random tokens instead of text");
  options
      .parsed(
          "--input-tokens",
          [this](const std::string& text) {
            const auto range = to_range(text);
            if (!range || range->second > max_input_tokens)
              return text + " is neither a length nor a range such as 16-2048";
            std::tie(request_.random.input_low, request_.random.input_high) = *range;
            return std::string();
          },
          "Random prompts: a fixed length, or a range to\n"
          "draw lengths from (default: 16-2048)")
      .meta("N|LOW-HIGH");
}

// How much, and how fast.
void TrafficArguments::declare_schedules(Options& options) {
  options
      .value("--num-prompts", request_.num_prompts,
             "Number of requests; a file with fewer is\n"
             "repeated (default: the file's, at most 1000)")
      .range(1, max_requests)
      .meta("N");

  options.value("--concurrency", request_.concurrency, "Requests in flight (default: all at once)")
      .range(0, max_concurrency)
      .meta("N");
  options.value("--request-rate", request_.request_rate, "Poisson arrivals per second").meta("R");
  options
      .flag("--trace-arrivals", request_.follows_arrivals,
            "Send at the file's timestamps (Mooncake,\nBurstGPT)")
      .excludes("--request-rate");

  options.value("--sweep", request_.sweep, "Concurrency levels to run in turn: 1,2,4,8")
      .delimiter(',')
      .range(1, max_concurrency)
      .meta("N,N,…");
  options.value("--sweep-rounds", request_.sweep_rounds, "Sweep: requests per slot at each level")
      .shows_default()
      .meta("N");
}

// How long answers are.
void TrafficArguments::declare_lengths(Options& options) {
  options
      .parsed(
          "--output-tokens",
          [this](const std::string& text) {
            const auto range = to_range(text);
            if (!range) return text + " is neither a length nor a range such as 16-256";
            request_.options.output_tokens = range;
            return std::string();
          },
          "Length of every answer, or a range to draw\n"
          "lengths from (default: the data's)")
      .meta("N|LOW-HIGH");
  options.value("--max-output-tokens", request_.options.max_output_tokens, "Maximum answer length")
      .positive()
      .shows_default()
      .meta("N");
}

// How the server is spoken to.
void TrafficArguments::declare_server(Options& options) {
  options.choice<std::optional<Endpoint>>("--endpoint", request_.endpoint,
                                          {{"generate", Endpoint::generate},
                                           {"completions", Endpoint::completions},
                                           {"chat", Endpoint::chat}},
                                          "API to use (default: what the server offers)");

  options.value("--api-key", request_.api_key, "The server's API key (or set OPENAI_API_KEY)")
      .checked([](const std::string& text) {
        return text.find_first_of("\r\n") == std::string::npos ? "" : "it contains a line break";
      })
      .meta("KEY");
  options
      .parsed_each(
          "--header",
          [this](const std::string& line) {
            const auto header = to_header(line);
            if (!header) return "'" + line + "' is not a header: write 'Name: value'";
            request_.options.headers.push_back(*header);
            return std::string();
          },
          "Header of every request; may be repeated")
      .meta("'NAME: VALUE'");
}

// How answers are sampled.
void TrafficArguments::declare_sampling(Options& options) {
  options.flag("!--no-ignore-eos", request_.options.ignores_end,
               "Let answers end where the model ends them");
  options.value("--temperature", request_.options.temperature, "Sampling temperature").meta("T");
  options.value("--top-p", request_.options.top_p, "Sampling top-p").meta("P");
  options.value("--top-k", request_.options.top_k, "Sampling top-k").meta("K");
  options.value("--seed", seed_, "Seed for arrivals and random prompts").meta("N");
}

TrafficRequest TrafficArguments::request() const {
  TrafficRequest request = request_;
  if (seed_) request.options.seed = request.random.seed = *seed_;
  return request;
}

std::chrono::steady_clock::duration slowness_for_tests() {
  const char* const microseconds = std::getenv("COLLECT_WORKLOADS_TEST_SLOWNESS_US");
  return std::chrono::microseconds(microseconds != nullptr ? std::atoi(microseconds) : 0);
}

}  // namespace cw::cli
