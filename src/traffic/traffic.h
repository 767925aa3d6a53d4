// Traffic: sends requests to a streaming inference server on a schedule and measures its responses.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "traffic/http.h"
#include "traffic/prompts.h"
#include "traffic/request_log.h"

namespace cw {

enum class Endpoint {
  generate,     ///< SGLang's /generate
  completions,  ///< OpenAI's /v1/completions
  chat,         ///< OpenAI's /v1/chat/completions
};

/// When requests are sent.
struct Schedule {
  std::size_t concurrency = 0;  ///< closed loop: requests in flight; 0: no limit
  double rate = 0;              ///< open loop: Poisson arrivals per second; 0: as soon as allowed
  std::size_t requests = 0;     ///< number of requests
  /// Open loop: at the prompts' own arrival times, relative to the first.
  bool follows_arrivals = false;
};

struct TrafficOptions {
  std::string url = "http://127.0.0.1:30000";
  Endpoint endpoint = Endpoint::generate;
  std::string model;                ///< for the OpenAI endpoints; empty: "default"
  std::vector<Schedule> schedules;  ///< one after the other
  HttpHeaders headers;              ///< of every request
  bool repeats = false;             ///< with fewer prompts than requests, start over from the first
  RequestLog* log = nullptr;  ///< requests it has as done are not sent; must outlive the traffic
  /// Overrides the prompts: log-uniform in [low, high], so that every octave is covered.
  std::optional<std::pair<std::int64_t, std::int64_t>> output_tokens;
  std::int64_t default_output_tokens = 128;  ///< if the data does not say
  std::int64_t max_output_tokens = 1024;     ///< upper limit on requested lengths
  bool ignores_end = true;                   ///< answers have the requested length, ignoring EOS
  std::optional<double> temperature, top_p;  ///< override the prompts
  std::optional<std::int64_t> top_k;
  std::uint64_t seed = 1;             ///< of arrivals and lengths
  std::chrono::seconds timeout{600};  ///< without an event from the server, until a request fails
  std::chrono::seconds max_duration{7200};  ///< of a request in total
  /// A stream that exceeds the requested tokens by this many events is considered endless.
  std::size_t max_extra_events = 4096;
  std::size_t max_retries = 2;  ///< for requests that the server cannot have seen
};

/// Seconds: 50th, 90th, 99th percentile and mean.
struct Percentiles {
  double p50 = 0, p90 = 0, p99 = 0, mean = 0;
};

struct TrafficReport {
  std::size_t sent = 0, completed = 0, failed = 0, retried = 0;
  std::size_t sent_twice = 0;  ///< over all runs: in flight when a run ended
  std::uint64_t input_tokens = 0, output_tokens = 0;
  double seconds = 0;
  Percentiles first_token;  ///< from sending to the first token
  Percentiles per_token;    ///< between tokens after the first, averaged per request
  Percentiles whole;        ///< whole requests
  /// By kind: "http_500", "connection", "timeout", "garbage", …
  std::map<std::string, std::size_t> errors;
  std::string example_error;
  bool is_stopped = false;  ///< before everything was sent
  /// For each schedule, how many of its requests came up, over all runs.
  std::vector<std::size_t> reached;
  std::string warning;  ///< what was not sent exactly as in the prompts

  double output_rate() const {
    return seconds > 0 ? static_cast<double>(output_tokens) / seconds : 0;
  }
};

/// Controls and observes running traffic; from any thread.
struct TrafficControl {
  std::atomic<bool> is_paused = false;  ///< send no new requests
  /// Send no more, and abandon those in flight after `grace`.
  std::atomic<bool> is_stopped = false;
  std::chrono::milliseconds grace{0};
  std::atomic<std::size_t> total = 0;  ///< requests in total, as far as known; 0: not started
  std::atomic<std::size_t> sent = 0, done = 0, failed = 0, under_way = 0, sent_twice = 0;
  std::atomic<std::uint64_t> output_tokens = 0;
};

/// Sends everything and waits for the responses, in the calling thread. A server that stops
/// responding is not an error: the report counts it. Error codes: "prompts_malformed",
/// "unreadable", "no_prompts".
Result<TrafficReport> drive(PromptSource& prompts, const TrafficOptions& options,
                            TrafficControl& control);

Json to_json(const TrafficReport& report);

/// Maximum size of a response; a larger one is an error.
inline constexpr std::size_t max_health = 1 << 20, max_information = 16 << 20;

/// "http://host:8000/v1" and "http://host:8000/v1/chat/completions" are "http://host:8000".
std::string without_api_path(std::string url);

/// GET, with the status. For health checks and server information. Error codes: "connection",
/// "too_large", "interrupted" (by a signal; see stop_signal()).
struct HttpAnswer {
  long status = 0;
  std::string body;
};
Result<HttpAnswer> http_get(const std::string& url,
                            std::chrono::milliseconds limit = std::chrono::seconds(5),
                            std::size_t max_size = max_health, const HttpHeaders& headers = {});
/// A GET to be polled, for callers with other things to do meanwhile.
class PendingGet {
 public:
  /// With `posted`, a POST of that JSON.
  PendingGet(const std::string& url, std::chrono::milliseconds limit,
             std::size_t max_size = max_health, const HttpHeaders& headers = {},
             std::string posted = {});
  PendingGet(PendingGet&&) noexcept;
  PendingGet& operator=(PendingGet&&) noexcept;
  ~PendingGet();
  /// The response, once available; nothing before. Not to be called again after that.
  std::optional<Result<HttpAnswer>> poll();
  /// Returns when poll() may make progress, after `limit` at the latest.
  void wait(std::chrono::milliseconds limit);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Chooses which API of a ready server to use, unless given, and the name of the model it serves,
/// if the API requires one and none is set. OPENAI_API_KEY is sent with OpenAI's APIs.
void choose_api(TrafficOptions& options, std::optional<Endpoint> given, bool has_text);

}  // namespace cw
