// SGLang's own client in place of ours, for comparison.
#pragma once

#include <string>

#include "base/process.h"
#include "traffic/request.h"

namespace cw {

/// `python -m sglang.bench_serving` with the same prompts and schedule, as far as it has flags for
/// them. `model` may be empty.
Command bench_serving_command(const std::string& python, const std::string& host, int port,
                              const std::string& model, const TrafficRequest& traffic);

}  // namespace cw
