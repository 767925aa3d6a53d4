#include "collect/bench_serving.h"

namespace cw {

Command bench_serving_command(const std::string& python, const std::string& host, int port,
                              const std::string& model, const TrafficRequest& traffic) {
  Command command{{python, "-m", "sglang.bench_serving", "--disable-tqdm"}};

  // As --flag=value, so that no value is mistaken for another flag.
  const auto add = [&command](const std::string& flag, const std::string& value) {
    command.arguments.push_back(flag + "=" + value);
  };

  // Where to, and how fast.
  add("--backend", "sglang");
  add("--host", host);
  add("--port", std::to_string(port));
  add("--num-prompts", std::to_string(traffic.num_prompts.value_or(TrafficRequest::max_prompts)));
  if (!model.empty()) add("--model", model);
  if (traffic.concurrency > 0) add("--max-concurrency", std::to_string(traffic.concurrency));
  if (traffic.request_rate > 0) add("--request-rate", fmt::format("{}", traffic.request_rate));

  // What: random tokens ("random" would download texts to cut), or conversations.
  const auto& length = traffic.options.output_tokens;
  if (traffic.uses_random_prompts) {
    const auto low = static_cast<double>(traffic.random.input_low);
    const auto high = static_cast<double>(traffic.random.input_high);
    add("--dataset-name", "random-ids");
    add("--random-input-len", std::to_string(traffic.random.input_high));
    add("--random-range-ratio", fmt::format("{}", low / high));
    if (length) add("--random-output-len", std::to_string(length->second));
    return command;
  }
  add("--dataset-name", "sharegpt");
  if (!traffic.prompts.empty())
    add("--dataset-path", std::filesystem::absolute(traffic.prompts).string());
  if (length) add("--sharegpt-output-len", std::to_string(length->second));
  return command;
}

}  // namespace cw
