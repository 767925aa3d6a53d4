// Traffic: requests on a schedule to a streaming inference server, and how it answered.
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
  std::size_t concurrency = 0;  ///< closed loop: so many at a time; 0: no limit
  double rate = 0;              ///< open loop: Poisson arrivals a second; 0: as soon as allowed
  std::size_t requests = 0;     ///< how many
  /// Open loop: at the times that the prompts say, from the first one's on.
  bool follows_arrivals = false;
};

struct TrafficOptions {
  std::string url = "http://127.0.0.1:30000";
  Endpoint endpoint = Endpoint::generate;
  std::string model;                ///< for the OpenAI endpoints; empty: "default"
  std::vector<Schedule> schedules;  ///< one after the other
  HttpHeaders headers;              ///< of every request
  bool repeats = false;  ///< with fewer prompts than requests, they are sent again from the first
  RequestLog* log = nullptr;  ///< what it says is done is not sent; must outlive the traffic
  /// Instead of what the prompts ask for: log-uniform in [low, high], so that every octave is met.
  std::optional<std::pair<std::int64_t, std::int64_t>> output_tokens;
  std::int64_t default_output_tokens = 128;  ///< where the data say nothing
  std::int64_t max_output_tokens = 1024;     ///< no answer is asked to be longer
  bool ignores_end = true;  ///< answers have the asked length, whatever the model says
  std::optional<double> temperature, top_p;  ///< instead of what the prompts ask for
  std::optional<std::int64_t> top_k;
  std::uint64_t seed = 1;             ///< of arrivals and lengths
  std::chrono::seconds timeout{600};  ///< without an event from the server, a request has failed
  std::chrono::seconds max_duration{7200};  ///< in all, whatever comes
  /// Past the tokens that were asked for, a stream is taken for endless.
  std::size_t max_extra_events = 4096;
  std::size_t max_retries = 2;  ///< for requests that the server cannot have seen
};

/// Seconds: 50th, 90th, 99th percentile and mean.
struct Percentiles {
  double p50 = 0, p90 = 0, p99 = 0, mean = 0;
};

struct TrafficReport {
  std::size_t sent = 0, completed = 0, failed = 0, retried = 0;
  std::size_t sent_twice = 0;  ///< in all runs: that one had under way when it ended
  std::uint64_t input_tokens = 0, output_tokens = 0;
  double seconds = 0;
  Percentiles first_token;  ///< from sending to the first token
  Percentiles per_token;    ///< between tokens after the first, mean of each request
  Percentiles whole;        ///< whole requests
  /// By kind: "http_500", "connection", "timeout", "garbage", …
  std::map<std::string, std::size_t> errors;
  std::string example_error;
  bool is_stopped = false;  ///< before all was sent
  /// Of each schedule, how many of its requests' turn came, in all runs.
  std::vector<std::size_t> reached;
  std::string warning;  ///< what was not sent as the prompts have it

  double output_rate() const {
    return seconds > 0 ? static_cast<double>(output_tokens) / seconds : 0;
  }
};

/// What others may say to running traffic, and hear of it; from any thread.
struct TrafficControl {
  std::atomic<bool> is_paused = false;  ///< send no new requests
  /// Send no more, and give up those under way after `grace`.
  std::atomic<bool> is_stopped = false;
  std::chrono::milliseconds grace{0};
  std::atomic<std::size_t> total = 0;  ///< requests there will be, as far as is known; 0: not begun
  std::atomic<std::size_t> sent = 0, done = 0, failed = 0, under_way = 0, sent_twice = 0;
  std::atomic<std::uint64_t> output_tokens = 0;
};

/// Sends it all and waits for the answers, in the calling thread. A server that answers nothing any
/// more is no error: the report counts it. Error codes: "prompts_malformed", "unreadable",
/// "no_prompts".
Result<TrafficReport> drive(PromptSource& prompts, const TrafficOptions& options,
                            TrafficControl& control);

Json to_json(const TrafficReport& report);

/// How much of an answer is taken; a larger one is an error.
inline constexpr std::size_t max_health = 1 << 20, max_information = 16 << 20;

/// "http://host:8000/v1" and "http://host:8000/v1/chat/completions" are "http://host:8000".
std::string without_api_path(std::string url);

/// GET, with the status. For health checks and server information. Error codes: "connection",
/// "too_large", "interrupted" (by a signal that stop_signal() tells).
struct HttpAnswer {
  long status = 0;
  std::string body;
};
Result<HttpAnswer> http_get(const std::string& url,
                            std::chrono::milliseconds limit = std::chrono::seconds(5),
                            std::size_t max_size = max_health, const HttpHeaders& headers = {});
/// A GET that is asked how it goes, for who has other things to do meanwhile.
class PendingGet {
 public:
  /// With `posted`, a POST of that JSON.
  PendingGet(const std::string& url, std::chrono::milliseconds limit,
             std::size_t max_size = max_health, const HttpHeaders& headers = {},
             std::string posted = {});
  PendingGet(PendingGet&&) noexcept;
  PendingGet& operator=(PendingGet&&) noexcept;
  ~PendingGet();
  /// The answer, once it is there; nothing before. Not to be called again after it.
  std::optional<Result<HttpAnswer>> poll();
  /// Returns when there may be news, after `limit` at the latest.
  void wait(std::chrono::milliseconds limit);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Which of its APIs a server that is ready is spoken to by, where that was not given, and the name
/// of the model that it serves, where the API wants one and there is none yet. OPENAI_API_KEY goes
/// with OpenAI's.
void choose_api(TrafficOptions& options, std::optional<Endpoint> given, bool has_text);

}  // namespace cw
