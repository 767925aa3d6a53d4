// One thread, one epoll, libcurl's multi interface in its socket_action form: a wake-up costs what there is to do,
// not what there is, so that a thousand slow streams are cheap. Of an answer only the last event is
// parsed; between, events are counted.
#include "traffic/traffic.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <list>
#include <memory>
#include <random>

#include <curl/curl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "traffic/event_stream.h"

namespace cw {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

Percentiles percentiles(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  // Linear between closest ranks, as numpy does.
  const auto at = [&values](double q) {
    const double place = q * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  double sum = 0;
  for (const double value : values) sum += value;
  return {at(0.5), at(0.9), at(0.99), sum / static_cast<double>(values.size())};
}

Json integer_list(const std::vector<std::int32_t>& values) {
  Json list = Json::array();
  for (const std::int32_t value : values) list.push_back(value);
  return list;
}

std::string body_of(const Prompt& prompt, std::int64_t output_tokens, const TrafficOptions& options) {
  Json parameters = Json::object();
  if (options.temperature) parameters["temperature"] = *options.temperature;
  if (options.top_p) parameters["top_p"] = *options.top_p;
  if (options.top_k) parameters["top_k"] = *options.top_k;
  parameters["ignore_eos"] = options.ignores_end;
  if (options.endpoint == Endpoint::generate) {
    parameters["max_new_tokens"] = output_tokens;
    Json body = Json::object();
    if (prompt.token_ids.empty())
      body["text"] = prompt.text();
    else
      body["input_ids"] = integer_list(prompt.token_ids);
    body["sampling_params"] = std::move(parameters);
    body["stream"] = true;
    return dump(body);
  }
  Json body = {{"model", options.model}};
  if (options.endpoint == Endpoint::completions) {
    body["prompt"] = prompt.token_ids.empty() ? Json(prompt.text()) : integer_list(prompt.token_ids);
  } else {
    body["messages"] = Json::array();
    for (const auto& [role, content] : prompt.messages)
      body["messages"].push_back({{"role", role}, {"content", content}});
    if (prompt.messages.empty()) body["messages"].push_back({{"role", "user"}, {"content", prompt.text()}});
  }
  body["max_tokens"] = output_tokens;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  body.update(parameters);
  return dump(body);
}

struct Request {
  std::string body;
  std::size_t tries = 0;
};

class Driver;

// One request under way.
struct Transfer {
  Driver* driver = nullptr;
  CURL* handle = nullptr;
  Request request;
  EventStream events;
  std::string rejected;  ///< the beginning of an answer that is no 200
  Clock::time_point sent, first, last;
  std::list<std::unique_ptr<Transfer>>::iterator place;
};

class Driver {
 public:
  Driver(PromptSource& prompts, const TrafficOptions& options, TrafficControl& control)
      : prompts_(prompts), options_(options), control_(control), random_(options.seed), lengths_(options.seed) {
    url_ = options.url + (options.endpoint == Endpoint::generate      ? "/generate"
                          : options.endpoint == Endpoint::completions ? "/v1/completions"
                                                                      : "/v1/chat/completions");
    poll_ = FileDescriptor(::epoll_create1(EPOLL_CLOEXEC));
    multi_ = ::curl_multi_init();
    ::curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &Driver::on_socket);
    ::curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
    ::curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &Driver::on_timer);
    ::curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    ::curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, 4096L);
    headers_ = ::curl_slist_append(headers_, "Content-Type: application/json");
    headers_ = ::curl_slist_append(headers_, "Expect:");
  }
  Driver(const Driver&) = delete;
  ~Driver() {
    for (auto& transfer : under_way_) drop(*transfer);
    for (CURL* handle : idle_) ::curl_easy_cleanup(handle);
    ::curl_multi_cleanup(multi_);
    ::curl_slist_free_all(headers_);
  }

  Result<TrafficReport> run() {
    const auto begin = Clock::now();
    std::size_t skipped = options_.skip;
    for (std::size_t i = 0; i < skipped && !is_exhausted_; ++i) CW_CHECK(next_request());
    for (const Schedule& schedule : options_.schedules) {
      const std::size_t left = schedule.requests - std::min(skipped, schedule.requests);
      skipped -= schedule.requests - left;
      CW_CHECK(run(schedule, left));
      if (is_exhausted_ || is_stopping()) break;
    }
    if (report_.sent == 0 && options_.skip == 0 && !is_stopping()) {
      const std::string why = prompts_.warning();
      return fail("no_prompts", "the source holds no prompts{}{}", why.empty() ? "" : ": ", why);
    }
    report_.seconds = seconds_between(begin, Clock::now());
    report_.first_token = percentiles(std::move(first_token_));
    report_.per_token = percentiles(std::move(per_token_));
    report_.whole = percentiles(std::move(whole_));
    report_.is_stopped = is_stopping();
    report_.warning = prompts_.warning();
    return std::move(report_);
  }

 private:
  bool is_stopping() const { return control_.is_stopped || stop_signal() != 0; }

  Result<void> run(const Schedule& schedule, std::size_t left) {
    auto next_arrival = Clock::now();
    std::optional<Clock::time_point> stopped_at;
    for (;;) {
      const bool stopping = is_stopping();
      if (stopping && !stopped_at) stopped_at = Clock::now();
      if (stopping && Clock::now() - *stopped_at >= control_.grace) {
        while (!under_way_.empty()) give_up(*under_way_.front());
        return {};
      }
      const bool may_send = !stopping && !control_.is_paused;
      // A few at a time: answers, stops and pauses are looked at in between.
      constexpr std::size_t most_at_once = 64;
      for (std::size_t sent = 0; sent < most_at_once && may_send && (left > 0 || !retries_.empty()) && !is_exhausted_ &&
             (schedule.concurrency == 0 || under_way_.size() < schedule.concurrency) &&
             (schedule.rate == 0 || Clock::now() >= next_arrival); ++sent) {
        CW_TRY(auto request, next_request());
        if (!request) break;
        if (request->tries == 0) --left;
        send(std::move(*request));
        if (schedule.rate > 0) next_arrival += interval(schedule.rate);
      }
      if (under_way_.empty() && retries_.empty() && (left == 0 || is_exhausted_)) return {};
      const bool has_room = may_send && left > 0 && !is_exhausted_ && schedule.rate == 0 &&
                            (schedule.concurrency == 0 || under_way_.size() < schedule.concurrency);
      wait(has_room                             ? Clock::now()
           : schedule.rate > 0 && left > 0 ? next_arrival
                                                : Clock::now() + std::chrono::milliseconds(50));
    }
  }

  // Exponential, from 53 random bits: the same on every machine.
  Clock::duration interval(double rate) {
    const double u = (static_cast<double>(random_() >> 11) + 1) * 0x1p-53;
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(-std::log(u) / rate));
  }

  Result<std::optional<Request>> next_request() {
    if (!retries_.empty()) {
      Request request = std::move(retries_.front());
      retries_.pop_front();
      return request;
    }
    CW_TRY(const auto prompt, prompts_.next());
    if (!prompt) {
      is_exhausted_ = true;
      return std::nullopt;
    }
    std::int64_t length = prompt->output_tokens > 0 ? prompt->output_tokens : options_.default_output_tokens;
    length = std::clamp<std::int64_t>(length, 1, options_.most_output_tokens);
    if (options_.output_tokens) length = log_uniform(lengths_, options_.output_tokens->first, options_.output_tokens->second);
    return Request{body_of(*prompt, length, options_)};
  }

  void send(Request request) {
    auto owned = std::make_unique<Transfer>();
    Transfer& transfer = *owned;
    transfer.driver = this;
    transfer.request = std::move(request);
    if (idle_.empty()) {
      transfer.handle = ::curl_easy_init();
    } else {
      transfer.handle = idle_.back();
      idle_.pop_back();
    }
    CURL* const handle = transfer.handle;
    ::curl_easy_setopt(handle, CURLOPT_URL, url_.c_str());
    ::curl_easy_setopt(handle, CURLOPT_PROXY, "");
    ::curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    ::curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers_);
    ::curl_easy_setopt(handle, CURLOPT_POSTFIELDS, transfer.request.body.c_str());
    ::curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(transfer.request.body.size()));
    ::curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &Driver::on_data);
    ::curl_easy_setopt(handle, CURLOPT_WRITEDATA, &transfer);
    ::curl_easy_setopt(handle, CURLOPT_PRIVATE, &transfer);
    ::curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, 1L);
    ::curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, static_cast<long>(options_.timeout.count()));
    transfer.sent = Clock::now();
    transfer.place = under_way_.insert(under_way_.end(), std::move(owned));
    ++report_.sent;
    control_.sent = report_.sent;
    control_.under_way = under_way_.size();
    ::curl_multi_add_handle(multi_, handle);
  }

  static std::size_t on_data(char* data, std::size_t size, std::size_t count, void* user) {
    Transfer& transfer = *static_cast<Transfer*>(user);
    long status = 0;
    ::curl_easy_getinfo(transfer.handle, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
      if (transfer.rejected.size() < 300) transfer.rejected.append(data, std::min(size * count, std::size_t{300}));
      return size * count;
    }
    const std::size_t before = transfer.events.events();
    transfer.events.take({data, size * count});
    if (const std::size_t now = transfer.events.events(); now > before) {
      transfer.last = Clock::now();
      if (before == 0) transfer.first = transfer.last;
      transfer.driver->control_.output_tokens += now - before;
    }
    return size * count;
  }

  static int on_socket(CURL*, curl_socket_t socket, int what, void* user, void*) {
    const int poll = static_cast<Driver*>(user)->poll_.get();
    if (what == CURL_POLL_REMOVE) {
      ::epoll_ctl(poll, EPOLL_CTL_DEL, socket, nullptr);
      return 0;
    }
    epoll_event event{};
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    event.data.fd = socket;
    if (::epoll_ctl(poll, EPOLL_CTL_MOD, socket, &event) != 0) ::epoll_ctl(poll, EPOLL_CTL_ADD, socket, &event);
    return 0;
  }

  static int on_timer(CURLM*, long milliseconds, void* user) {
    auto& timer = static_cast<Driver*>(user)->timer_;
    timer.reset();
    if (milliseconds >= 0) timer = Clock::now() + std::chrono::milliseconds(milliseconds);
    return 0;
  }

  void wait(Clock::time_point until) {
    until = std::min(until, Clock::now() + std::chrono::milliseconds(50));
    if (timer_) until = std::min(until, *timer_);
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
    epoll_event events[256];
    const int ready = ::epoll_wait(poll_.get(), events, 256, static_cast<int>(std::max<std::int64_t>(0, left.count())));
    int running = 0;
    for (int i = 0; i < ready; ++i) {
      const std::uint32_t bits = events[i].events;
      ::curl_multi_socket_action(multi_, events[i].data.fd,
                                 (bits & (EPOLLIN | EPOLLHUP | EPOLLERR) ? CURL_CSELECT_IN : 0) |
                                     (bits & EPOLLOUT ? CURL_CSELECT_OUT : 0) | (bits & EPOLLERR ? CURL_CSELECT_ERR : 0),
                                 &running);
    }
    if (timer_ && Clock::now() >= *timer_) {
      timer_.reset();
      ::curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    int pending = 0;
    while (const CURLMsg* message = ::curl_multi_info_read(multi_, &pending)) {
      if (message->msg != CURLMSG_DONE) continue;
      Transfer* transfer = nullptr;
      ::curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
      finish(*transfer, message->data.result);
    }
  }

  void finish(Transfer& transfer, CURLcode result) {
    long status = 0;
    ::curl_easy_getinfo(transfer.handle, CURLINFO_RESPONSE_CODE, &status);
    const EventStream& events = transfer.events;
    std::string kind, detail;
    StreamTotals totals;
    if (result != CURLE_OK) {
      kind = result == CURLE_OPERATION_TIMEDOUT ? "timeout" : "connection";
      detail = ::curl_easy_strerror(result);
    } else if (status != 200) {
      kind = fmt::format("http_{}", status);
      detail = transfer.rejected;
    } else {
      totals = events.totals();
      kind = events.is_garbage() || events.events() == 0 ? "garbage"
             : !totals.error.empty()                      ? totals.error
             : events.is_done()                           ? ""
                                                          : "truncated";
      detail = events.last().substr(0, 200);
    }
    const double now = seconds_between(transfer.sent, Clock::now());
    if (kind.empty()) {
      ++report_.completed;
      report_.input_tokens += totals.input;
      report_.output_tokens += totals.output;
      first_token_.push_back(seconds_between(transfer.sent, transfer.first));
      if (totals.output > 1)
        per_token_.push_back(seconds_between(transfer.first, transfer.last) / static_cast<double>(totals.output - 1));
      whole_.push_back(now);
    } else if (is_safe_to_retry(result, status) && transfer.request.tries < options_.most_retries && !is_stopping()) {
      ++report_.retried;
      --report_.sent;
      ++transfer.request.tries;
      retries_.push_back(std::move(transfer.request));
    } else {
      count_failure(kind, detail);
    }
    control_.done = report_.completed;
    drop(transfer);
    under_way_.erase(transfer.place);
    control_.under_way = under_way_.size();
  }

  // Nothing of the request can have been worked on: no connection, or a server that says it is busy.
  static bool is_safe_to_retry(CURLcode result, long status) {
    return result == CURLE_COULDNT_CONNECT || (result == CURLE_OK && (status == 429 || status == 503));
  }

  void count_failure(const std::string& kind, const std::string& detail) {
    ++report_.failed;
    ++report_.errors[kind];
    control_.failed = report_.failed;
    if (report_.example_error.empty()) report_.example_error = detail.empty() ? kind : kind + ": " + detail;
  }

  void give_up(Transfer& transfer) {
    count_failure("given_up", "traffic was stopped before the answer ended");
    drop(transfer);
    under_way_.erase(transfer.place);
    control_.under_way = under_way_.size();
  }

  void drop(Transfer& transfer) {
    ::curl_multi_remove_handle(multi_, transfer.handle);
    ::curl_easy_reset(transfer.handle);
    idle_.push_back(transfer.handle);
  }

  PromptSource& prompts_;
  const TrafficOptions& options_;
  TrafficControl& control_;
  std::mt19937_64 random_, lengths_;
  std::string url_;
  FileDescriptor poll_;
  CURLM* multi_ = nullptr;
  curl_slist* headers_ = nullptr;
  std::optional<Clock::time_point> timer_;
  std::list<std::unique_ptr<Transfer>> under_way_;
  std::vector<CURL*> idle_;
  std::deque<Request> retries_;
  bool is_exhausted_ = false;
  TrafficReport report_;
  std::vector<double> first_token_, per_token_, whole_;
};

std::size_t append(char* data, std::size_t size, std::size_t count, void* user) {
  static_cast<std::string*>(user)->append(data, size * count);
  return size * count;
}

Result<HttpAnswer> perform(const std::string& url, const std::string* body, std::chrono::milliseconds limit) {
  const std::unique_ptr<CURL, void (*)(CURL*)> handle(::curl_easy_init(), ::curl_easy_cleanup);
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(
      ::curl_slist_append(nullptr, "Content-Type: application/json"), ::curl_slist_free_all);
  HttpAnswer answer;
  ::curl_easy_setopt(handle.get(), CURLOPT_URL, url.c_str());
  ::curl_easy_setopt(handle.get(), CURLOPT_PROXY, "");
  ::curl_easy_setopt(handle.get(), CURLOPT_NOSIGNAL, 1L);
  ::curl_easy_setopt(handle.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(limit.count()));
  ::curl_easy_setopt(handle.get(), CURLOPT_WRITEFUNCTION, &append);
  ::curl_easy_setopt(handle.get(), CURLOPT_WRITEDATA, &answer.body);
  if (body != nullptr) {
    ::curl_easy_setopt(handle.get(), CURLOPT_HTTPHEADER, headers.get());
    ::curl_easy_setopt(handle.get(), CURLOPT_POSTFIELDS, body->c_str());
    ::curl_easy_setopt(handle.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body->size()));
  }
  if (const CURLcode code = ::curl_easy_perform(handle.get()); code != CURLE_OK)
    return fail("connection", "{}: {}", url, ::curl_easy_strerror(code));
  ::curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &answer.status);
  return answer;
}

Json to_json(const Percentiles& p) {
  return {{"p50", p.p50}, {"p90", p.p90}, {"p99", p.p99}, {"mean", p.mean}};
}

}  // namespace

Result<TrafficReport> drive(PromptSource& prompts, const TrafficOptions& options, TrafficControl& control) {
  return Driver(prompts, options, control).run();
}

Json to_json(const TrafficReport& report) {
  return {{"sent", report.sent},
          {"completed", report.completed},
          {"failed", report.failed},
          {"retried", report.retried},
          {"errors", report.errors},
          {"input_tokens", report.input_tokens},
          {"output_tokens", report.output_tokens},
          {"seconds", report.seconds},
          {"output_tokens_per_second", report.output_rate()},
          {"time_to_first_token_s", to_json(report.first_token)},
          {"time_per_output_token_s", to_json(report.per_token)},
          {"request_s", to_json(report.whole)},
          {"stopped", report.is_stopped}};
}

Result<HttpAnswer> http_get(const std::string& url, std::chrono::milliseconds limit) {
  return perform(url, nullptr, limit);
}

Result<HttpAnswer> http_post(const std::string& url, const std::string& body, std::chrono::milliseconds limit) {
  return perform(url, &body, limit);
}

}  // namespace cw
