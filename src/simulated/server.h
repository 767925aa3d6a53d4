// The simulated engine's HTTP side: SGLang's endpoints over the scheduler.
//
//   GET  /health, /health_generate   503 until ready, then 200
//   GET  /server_info, /get_server_info, /get_model_info, /v1/models
//   POST /generate                   SGLang's own, streaming or not
//   POST /v1/completions, /v1/chat/completions
//   POST /flush_cache, /abort_request
//
// One thread serves any number of connections.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "simulated/scheduler.h"

namespace cw::simulated {

struct ServerOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 30000;
  std::string model = "simulated";
  double load_seconds = 0.5;  ///< /health answers 503 so long
  double health_seconds = 0;  ///< /health takes so long then: SGLang's generates a token
  SchedulerOptions scheduler;
  enum class Fault { none, refuse, die_loading, error_500, garbage };
  Fault fault = Fault::none;
  Misbehaviour misbehaviour;
};

/// Serves until SIGINT or SIGTERM (watch_signals() must be on). Error codes: "port_taken",
/// "unservable".
Result<void> serve(const ServerOptions& options);

}  // namespace cw::simulated
