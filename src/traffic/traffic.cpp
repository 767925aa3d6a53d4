// One thread, one epoll: a wake-up costs what there is to do, not what there is, so a thousand slow
// streams are cheap. Only the last event of an answer is parsed; those in between are counted. And
// between its first token and its last, a stream says nothing that is needed at once, so it is left
// alone there (doze()): at its pace so far, its end cannot come meanwhile.
#include "traffic/traffic.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <random>
#include <thread>

#include <curl/curl.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "base/file.h"
#include "base/process.h"
#include "base/redact.h"
#include "traffic/event_stream.h"
#include "traffic/http.h"

namespace cw {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

Percentiles percentiles(std::vector<double> values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
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

std::string body_of(const Prompt& prompt, std::int64_t output_tokens,
                    const TrafficOptions& options) {
  Json parameters = prompt.sampling;
  if (options.temperature) parameters["temperature"] = *options.temperature;
  if (options.top_p) parameters["top_p"] = *options.top_p;
  if (options.top_k) parameters["top_k"] = *options.top_k;
  parameters["ignore_eos"] = options.ignores_end;

  // SGLang's own API.
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

  // OpenAI's two.
  Json body = {{"model", options.model.empty() ? "default" : options.model}};
  if (options.endpoint == Endpoint::completions) {
    body["prompt"] =
        prompt.token_ids.empty() ? Json(prompt.text()) : integer_list(prompt.token_ids);
  } else {
    body["messages"] = Json::array();
    for (const Message& message : prompt.messages) {
      Json item = {{"role", message.role}, {"content", message.content}};
      if (!message.beside.is_null()) item.update(message.beside);
      body["messages"].push_back(std::move(item));
    }
    // The API takes texts only.
    if (prompt.messages.empty())
      body["messages"].push_back({{"role", "user"}, {"content", words_for(prompt.token_ids)}});
  }

  body["max_tokens"] = output_tokens;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  body.update(parameters);
  return dump(body);
}

struct Request {
  std::string wire;           ///< everything that is sent
  std::size_t number = 0;     ///< in prompt order
  std::int64_t expected = 0;  ///< tokens that the answer will have; 0: it may end early
  std::size_t tries = 0;
  Clock::time_point not_before{};
  std::optional<double> arrival;  ///< as its prompt's
};

// One request under way.
struct Transfer {
  Transfer(Request given, HttpExchange opened)
      : request(std::move(given)), exchange(std::move(opened)) {}
  Request request;
  HttpExchange exchange;
  EventStream events;
  Clock::time_point sent = Clock::now(), heard = sent, first, last;
  std::size_t address = 0;  ///< index of the server's address
  std::list<Transfer>::iterator place;
  std::optional<std::multimap<Clock::time_point, Transfer*>::iterator> doze;
};

class Driver {
 public:
  Driver(PromptSource& prompts, const TrafficOptions& options, TrafficControl& control)
      : prompts_(prompts),
        options_(options),
        control_(control),
        random_(options.seed),
        lengths_(options.seed) {}

  Result<TrafficReport> run() {
    CW_TRY(server_, HttpServer::resolve(options_.url, options_.headers));
    poll_ = FileDescriptor(::epoll_create1(EPOLL_CLOEXEC));
    if (!poll_) return fail("connection", "no epoll: {}", std::strerror(errno));
    allow_many_files();

    const auto begin = Clock::now();
    std::size_t end = 0, total = 0;
    for (const Schedule& schedule : options_.schedules) total += schedule.requests;
    control_.total = total;

    // Each schedule sends its requests, and the next one continues where it ended.
    for (const Schedule& schedule : options_.schedules) {
      const std::size_t begun = next_number_;
      end += schedule.requests;
      follows_arrivals_ = schedule.follows_arrivals;
      CW_CHECK(run(schedule, end));
      report_.reached.push_back(next_number_ - begun);
      if (is_exhausted_ || is_stopping()) break;
    }
    report_.reached.resize(options_.schedules.size());

    const bool has_earlier = options_.log != nullptr && options_.log->done() > 0;
    if (report_.sent == 0 && !has_earlier && !is_stopping()) {
      const std::string why = prompts_.warning();
      return fail("no_prompts", "the source holds no prompts{}{}", why.empty() ? "" : ": ", why);
    }

    report_.seconds = seconds_between(begin, Clock::now());
    report_.first_token = percentiles(std::move(first_token_));
    report_.per_token = percentiles(std::move(per_token_));
    report_.whole = percentiles(std::move(whole_));
    report_.is_stopped = is_stopping();
    if (options_.log != nullptr) report_.sent_twice = options_.log->sent_twice();
    report_.warning = warning();
    return std::move(report_);
  }

 private:
  static constexpr std::uint32_t every_edge = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  static constexpr std::chrono::milliseconds first_pause{
      100};  ///< before a request is tried again; then four times that
  /// Of requests, which are kept until they are answered.
  static constexpr std::size_t max_bytes_under_way = 32 << 20;
  static constexpr int max_alone = 8;
  static constexpr std::chrono::microseconds nap{100};  ///< times are off by no more than this
  static constexpr std::chrono::milliseconds max_doze{
      50};  ///< how late an end may be seen that comes sooner than the pace says
  static constexpr double max_wait = 1e8;               ///< seconds
  static constexpr std::int64_t max_unread = 64 << 10;  ///< bytes; sockets buffer 128 KB and more

  // How what was sent differs from the prompts.
  std::string warning() {
    std::vector<std::string> notes;
    if (const std::string of_source = prompts_.warning(); !of_source.empty())
      notes.push_back(of_source);
    if (passes_ > 1)
      notes.push_back(fmt::format("{} prompts for {} requests: they were sent again from the first",
                                  in_first_pass_, next_number_));
    if (cut_ > 0)
      notes.push_back(
          fmt::format("{} answers are shorter than requested, because of --max-output-tokens {}",
                      cut_, options_.max_output_tokens));
    if (turned_into_words_ > 0)
      notes.push_back(fmt::format(
          "{} prompts of token ids were sent as words, which this API accepts: their lengths are "
          "close to what was requested, but not exact",
          turned_into_words_));

    if (untimed_ > 0 && follows_arrivals_)
      notes.push_back(
          fmt::format("{} prompts have no arrival time and were sent at once", untimed_));
    if (untimed_ > 0 && !follows_arrivals_)
      notes.push_back(fmt::format(
          "{} prompts have arrival times, which were ignored (see --trace-arrivals)", untimed_));

    if (has_plain_)
      notes.push_back(
          "this server does not stream: times to first token are those of whole answers");
    if (!is_exhausted_ && !is_stopping() && passes_ == 1 && !options_.schedules.empty()) {
      const auto more = prompts_.next();
      if (more && *more && (*more)->token_ids.empty())
        notes.push_back(fmt::format(
            "there are more prompts than the {} that were sent (--num-prompts)", next_number_));
    }
    return fmt::format("{}", fmt::join(notes, "; "));
  }

  bool is_stopping() const { return control_.is_stopped || stop_signal() != 0; }

  // Requests up to number `end`.
  Result<void> run(const Schedule& schedule, std::size_t end) {
    auto next_arrival = Clock::now();
    std::optional<Clock::time_point> stopped_at;
    for (;;) {
      const bool stopping = is_stopping();
      if (stopping && !stopped_at) stopped_at = Clock::now();
      if (stopping && Clock::now() - *stopped_at >= control_.grace) {
        while (!under_way_.empty()) give_up(under_way_.front());
        return {};
      }

      const auto may_send = [&] {
        return !stopping && !control_.is_paused && !lacks_sockets_ &&
               (has_retry() || has_more(end)) &&
               (schedule.concurrency == 0 || under_way_.size() < schedule.concurrency) &&
               (bytes_under_way_ < max_bytes_under_way || under_way_.empty());
      };
      // A few at a time: answers, stops and pauses are handled in between.
      constexpr std::size_t max_at_once = 64;
      for (std::size_t sent = 0;
           sent < max_at_once && may_send() && (schedule.rate == 0 || Clock::now() >= next_arrival);
           ++sent) {
        CW_TRY(auto request, next_request(end));
        if (!request) break;
        if (schedule.follows_arrivals && request->tries == 0) {
          next_arrival = due(*request);
          if (next_arrival > Clock::now()) {
            prepared_ = std::move(request);
            break;
          }
        }
        send(std::move(*request));
        if (schedule.rate > 0) next_arrival += interval(schedule.rate);
      }

      if (under_way_.empty() && retries_.empty() && !has_more(end)) return {};
      const bool is_timed = schedule.rate > 0 || prepared_.has_value();
      wait(may_send() && !is_timed     ? Clock::now()
           : is_timed && has_more(end) ? next_arrival
                                       : Clock::now() + std::chrono::milliseconds(50));
    }
  }

  bool has_more(std::size_t end) const {
    return prepared_ || (next_number_ < end && !is_exhausted_);
  }

  // At its prompt's arrival time, counted from the first one's. In later passes, the same times
  // again.
  Clock::time_point due(const Request& request) {
    if (!request.arrival) return Clock::now();
    if (!arrivals_begin_ || arrivals_pass_ != passes_) {
      arrivals_begin_ = Clock::now();
      arrivals_pass_ = passes_;
      first_arrival_ = *request.arrival;
    }
    const std::chrono::duration<double> after(
        std::clamp(*request.arrival - first_arrival_, 0.0, max_wait));
    return *arrivals_begin_ + std::chrono::duration_cast<Clock::duration>(after);
  }

  bool has_retry() const {
    return !retries_.empty() && retries_.front().not_before <= Clock::now();
  }

  // Exponential, from 53 random bits: the same on every machine.
  Clock::duration interval(double rate) {
    const double u = (static_cast<double>(random_() >> 11) + 1) * 0x1p-53;
    return std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(-std::log(u) / rate));
  }

  // The next one that is not done; its number and length do not depend on which ones are.
  Result<std::optional<Request>> next_request(std::size_t end) {
    if (has_retry()) {
      Request request = std::move(retries_.front());
      retries_.pop_front();
      return request;
    }
    if (prepared_) return std::exchange(prepared_, std::nullopt);
    while (next_number_ < end && !is_stopping()) {
      CW_TRY(const auto prompt, next_prompt());
      if (!prompt) {
        is_exhausted_ = true;
        control_.total = next_number_;
        break;
      }

      // How long its answer becomes.
      const std::size_t number = next_number_++;
      std::int64_t length =
          prompt->output_tokens > 0 ? prompt->output_tokens : options_.default_output_tokens;
      if (options_.output_tokens) {
        length =
            log_uniform(lengths_, options_.output_tokens->first, options_.output_tokens->second);
      } else {
        cut_ += length > options_.max_output_tokens;
        length = std::clamp<std::int64_t>(length, 1, options_.max_output_tokens);
      }

      if (options_.log != nullptr && options_.log->is_done(number)) continue;
      turned_into_words_ += options_.endpoint == Endpoint::chat && prompt->messages.empty();
      untimed_ += prompt->arrival.has_value() != follows_arrivals_;
      static constexpr std::array paths{"/generate", "/v1/completions", "/v1/chat/completions"};
      return Request{.wire = server_->post(paths[static_cast<std::size_t>(options_.endpoint)],
                                           body_of(*prompt, length, options_)),
                     .number = number,
                     .expected = options_.ignores_end ? length : 0,
                     .arrival = prompt->arrival};
    }
    return std::nullopt;
  }

  // Starts over if there are fewer prompts than requests.
  Result<std::optional<Prompt>> next_prompt() {
    CW_TRY(auto prompt, prompts_.next());
    if (prompt) {
      in_first_pass_ += passes_ == 1;
      return prompt;
    }
    if (!options_.repeats || in_first_pass_ == 0) return prompt;
    CW_CHECK(prompts_.rewind());
    ++passes_;
    return prompts_.next();
  }

  void send(Request request) {
    HttpExchange connection = take_connection();
    if (connection.socket() < 0 &&
        !under_way_.empty()) {  // `ulimit -n`: one becomes free when another ends
      lacks_sockets_ = true;
      return retries_.push_front(std::move(request));
    }
    Transfer& transfer = under_way_.emplace_back(std::move(request), std::move(connection));
    bytes_under_way_ += transfer.request.wire.size();
    transfer.place = std::prev(under_way_.end());
    transfer.address = server_->address();
    ++report_.sent;
    control_.sent = report_.sent;
    control_.under_way = under_way_.size();
    if (options_.log != nullptr && transfer.request.tries == 0)
      options_.log->note_sent(transfer.request.number);
    if (options_.log != nullptr) control_.sent_twice = options_.log->sent_twice();
    begin(transfer);
  }

  HttpExchange take_connection() {
    if (idle_.empty()) return HttpExchange(server_->connect(), HttpExchange::Connection::fresh);
    HttpExchange exchange(std::move(idle_.back()), HttpExchange::Connection::reused);
    idle_.pop_back();
    return exchange;
  }

  void begin(Transfer& transfer) {
    transfer.exchange.start(transfer.request.wire);
    if (!listen(transfer, EPOLL_CTL_ADD, every_edge)) advance(transfer);
  }

  // Edge-triggered: each event on a socket is reported once. advance() continues until nothing is
  // left.
  bool listen(Transfer& transfer, int operation, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = &transfer;
    return ::epoll_ctl(poll_.get(), operation, transfer.exchange.socket(), &event) == 0;
  }

  void wait(Clock::time_point until) {
    if (!dozing_.empty()) until = std::min(until, dozing_.begin()->first);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    epoll_event events[256];
    const int ready = ::epoll_wait(poll_.get(), events, 256,
                                   static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 50)));
    for (int i = 0; i < ready; ++i)
      advance(*static_cast<Transfer*>(events[i].data.ptr),
              (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);

    // The tokens of a step come one after the other: a nap lets the rest arrive, so that they cost
    // one wake-up.
    if (ready > 0 && ready < max_alone && under_way_.size() >= 2 * max_alone)
      std::this_thread::sleep_for(nap);
    const auto now = Clock::now();
    while (!dozing_.empty() && dozing_.begin()->first <= now) advance(*dozing_.begin()->second);
    if (now - swept_ < std::chrono::seconds(1)) return;
    swept_ = now;
    for (auto transfer = under_way_.begin(); transfer != under_way_.end();) {
      Transfer& current = *transfer++;
      if (now - current.heard > options_.timeout || now - current.sent > options_.max_duration)
        finish(current, HttpExchange::State::timed_out);
    }
  }

  void advance(Transfer& transfer, bool has_ended = false) {
    const auto previous = transfer.heard;
    const std::size_t before = transfer.events.events();
    const auto state =
        transfer.exchange.advance(transfer.request.wire, has_ended,
                                  [&](std::string_view body) { transfer.events.take(body); });
    const std::size_t news = transfer.events.events() - before;

    if (news > 0) {
      transfer.heard = transfer.last = Clock::now();
      if (before == 0) transfer.first = transfer.last;
      control_.output_tokens += news;
    }

    // Has it ended, in whatever way?
    if (state == HttpExchange::State::stale) return reconnect(transfer);
    if (is_endless(transfer)) return finish(transfer, HttpExchange::State::malformed);
    if (state == HttpExchange::State::has_more)
      return doze(transfer, Clock::now() + Clock::duration(1));  // until the next turn
    if (state != HttpExchange::State::under_way) return finish(transfer, state);

    const auto pause = before > 0 && news > 0
                           ? time_to_doze(transfer, (transfer.heard - previous) / news)
                           : Clock::duration();
    doze(transfer,
         pause > Clock::duration() ? std::optional(transfer.heard + pause) : std::nullopt);
  }

  // A line longer than any real one, or more events than were asked for: stop reading.
  bool is_endless(const Transfer& transfer) const {
    const std::size_t asked = transfer.request.expected > 0
                                  ? static_cast<std::size_t>(transfer.request.expected)
                                  : static_cast<std::size_t>(options_.max_output_tokens);
    return transfer.events.is_garbage() ||
           transfer.events.events() > asked + options_.max_extra_events;
  }

  // Half the time that its other tokens will take, as long as what comes meanwhile fits in the
  // socket's buffer.
  Clock::duration time_to_doze(const Transfer& transfer, Clock::duration gap) const {
    const std::int64_t left =
        transfer.request.expected - static_cast<std::int64_t>(transfer.events.events());
    const std::int64_t fitting =
        max_unread / static_cast<std::int64_t>(transfer.events.last().size() + 1);
    if (left < 4 || fitting < 4) return {};
    const auto pause = std::min({left * gap / 2, fitting * gap, Clock::duration(max_doze)});
    return pause > 2 * gap ? pause : Clock::duration();
  }

  void doze(Transfer& transfer, std::optional<Clock::time_point> until) {
    const bool was_dozing = transfer.doze.has_value();
    if (was_dozing) dozing_.erase(*std::exchange(transfer.doze, std::nullopt));
    if (until) transfer.doze = dozing_.emplace(*until, &transfer);
    if (was_dozing != transfer.doze.has_value())
      listen(transfer, EPOLL_CTL_MOD, was_dozing ? every_edge : 0u);
  }

  // The server had closed the idle connection that was reused.
  void reconnect(Transfer& transfer) {
    transfer.exchange = HttpExchange(server_->connect(), HttpExchange::Connection::fresh);
    transfer.address = server_->address();
    begin(transfer);
  }

  void finish(Transfer& transfer, HttpExchange::State state) {
    const HttpExchange& exchange = transfer.exchange;
    if (state == HttpExchange::State::unreachable && exchange.socket() >= 0 &&
        server_->try_other_address(transfer.address))
      return reconnect(transfer);
    if (exchange.status() != 0) server_->note_reached();

    const auto failure = failure_of(transfer, state);
    if (!failure)
      count_completed(transfer);
    else if (is_safe_to_retry(state, exchange.status()) &&
             transfer.request.tries < options_.max_retries && !is_stopping())
      retry(transfer);
    else
      count_failure(failure->kind, failure->detail);
    control_.done = report_.completed;
    remove(transfer);
  }

  struct Failure {
    std::string kind, detail;
  };

  // Why a finished exchange is not an answer; nothing if it is one.
  std::optional<Failure> failure_of(Transfer& transfer, HttpExchange::State state) {
    if (state == HttpExchange::State::done && transfer.exchange.status() == 200)
      return failure_of_stream(transfer);
    if (state == HttpExchange::State::done) return failure_of_status(transfer.exchange);
    if (state == HttpExchange::State::timed_out) return Failure{"timeout", why_timed_out(transfer)};

    const std::string& error = transfer.exchange.error();
    return Failure{state == HttpExchange::State::malformed ? "garbage" : "connection",
                   error.empty() ? fmt::format("a stream that ends prematurely, after {} events",
                                               transfer.events.events())
                                 : error};
  }

  static Failure failure_of_status(const HttpExchange& exchange) {
    const unsigned status = exchange.status();
    Failure failure{fmt::format("http_{}", status), exchange.rejected()};
    std::string& detail = failure.detail;
    if (status == 401 || status == 403)
      detail =
          "the server requires a key (--api-key, --header; OPENAI_API_KEY goes to OpenAI's routes "
          "only): " +
          detail;
    if (status == 400 && detail.find("ignore_eos") != std::string::npos)
      detail = "the server does not know ignore_eos (--no-ignore-eos): " + detail;
    if (status == 404) detail = "the server has no such route or model (--endpoint): " + detail;
    return failure;
  }

  std::optional<Failure> failure_of_stream(Transfer& transfer) {
    EventStream& events = transfer.events;
    events.finish();
    if (events.is_plain()) transfer.first = transfer.last = Clock::now();
    has_plain_ = has_plain_ || events.is_plain();

    if (events.events() == 0)
      return Failure{"garbage", "HTTP 200 without an event: does this server stream?"};
    const std::string last(events.last().substr(0, 200));
    if (events.is_garbage()) return Failure{"garbage", last};
    if (const std::string error = events.totals().error; !error.empty())
      return Failure{error, last};
    if (!events.is_done()) return Failure{"truncated", last};
    return {};
  }

  void count_completed(const Transfer& transfer) {
    const StreamTotals totals = transfer.events.totals();
    ++report_.completed;
    if (options_.log != nullptr) options_.log->note_done(transfer.request.number);
    report_.input_tokens += totals.input;
    report_.output_tokens += totals.output;

    first_token_.push_back(seconds_between(transfer.sent, transfer.first));
    if (totals.output > 1 && !transfer.events.is_plain())
      per_token_.push_back(seconds_between(transfer.first, transfer.last) /
                           static_cast<double>(totals.output - 1));
    whole_.push_back(seconds_between(transfer.sent, Clock::now()));
  }

  void retry(Transfer& transfer) {
    ++report_.retried;
    --report_.sent;
    transfer.request.not_before = Clock::now() + first_pause * (1 << 2 * transfer.request.tries++);
    bytes_under_way_ -= std::min(bytes_under_way_, transfer.request.wire.size());
    retries_.push_back(std::move(transfer.request));
  }

  std::string why_timed_out(const Transfer& transfer) const {
    const bool is_too_long = Clock::now() - transfer.sent > options_.max_duration;
    return is_too_long ? fmt::format("unfinished after {} s", options_.max_duration.count())
                       : fmt::format("no token for {} s", options_.timeout.count());
  }

  // The request cannot have been processed at all: no connection, or a server that says it is busy.
  static bool is_safe_to_retry(HttpExchange::State state, unsigned status) {
    return state == HttpExchange::State::unreachable ||
           (state == HttpExchange::State::done && (status == 429 || status == 503));
  }

  void count_failure(const std::string& kind, const std::string& detail) {
    ++report_.failed;
    ++report_.errors[kind];
    control_.failed = report_.failed;
    // Servers echo what they were given.
    if (report_.example_error.empty())
      report_.example_error =
          detail.empty() ? kind : kind + ": " + redact(std::string_view(detail));
  }

  void give_up(Transfer& transfer) {
    count_failure("given_up", "traffic was stopped before the answer ended");
    remove(transfer);
  }

  void remove(Transfer& transfer) {
    ::epoll_ctl(poll_.get(), EPOLL_CTL_DEL, transfer.exchange.socket(), nullptr);
    if (transfer.doze) dozing_.erase(*transfer.doze);
    lacks_sockets_ = false;
    if (transfer.exchange.is_reusable()) idle_.push_back(transfer.exchange.release());
    bytes_under_way_ -= std::min(bytes_under_way_, transfer.request.wire.size());
    under_way_.erase(transfer.place);
    control_.under_way = under_way_.size();
  }

  PromptSource& prompts_;
  const TrafficOptions& options_;
  TrafficControl& control_;
  std::mt19937_64 random_, lengths_;
  std::optional<HttpServer> server_;
  FileDescriptor poll_;
  std::list<Transfer> under_way_;
  std::multimap<Clock::time_point, Transfer*> dozing_;  ///< by time of the next look
  std::vector<FileDescriptor> idle_;                    ///< kept-alive connections
  Clock::time_point swept_;
  std::deque<Request> retries_;
  std::size_t next_number_ = 0;  ///< of a request
  bool is_exhausted_ = false, lacks_sockets_ = false, has_plain_ = false, follows_arrivals_ = false;
  std::size_t passes_ = 1, in_first_pass_ = 0;  ///< passes over the prompts; prompts in the first
  std::size_t bytes_under_way_ = 0;
  std::size_t cut_ = 0, turned_into_words_ = 0, untimed_ = 0;
  std::optional<Request> prepared_;  ///< not due yet
  std::optional<Clock::time_point> arrivals_begin_;
  std::size_t arrivals_pass_ = 0;
  double first_arrival_ = 0;
  TrafficReport report_;
  std::vector<double> first_token_, per_token_, whole_;
};

using CurlHandle = std::unique_ptr<CURL, void (*)(CURL*)>;

Json to_json(const Percentiles& p) {
  return {{"p50", p.p50}, {"p90", p.p90}, {"p99", p.p99}, {"mean", p.mean}};
}

}  // namespace

Result<TrafficReport> drive(PromptSource& prompts, const TrafficOptions& options,
                            TrafficControl& control) {
  return Driver(prompts, options, control).run();
}

Json to_json(const TrafficReport& report) {
  return {{"sent", report.sent},
          {"completed", report.completed},
          {"failed", report.failed},
          {"retried", report.retried},
          {"sent_twice", report.sent_twice},
          {"errors", report.errors},
          {"example_error", report.example_error},
          {"input_tokens", report.input_tokens},
          {"output_tokens", report.output_tokens},
          {"seconds", report.seconds},
          {"output_tokens_per_second", report.output_rate()},
          {"time_to_first_token_s", to_json(report.first_token)},
          {"time_per_output_token_s", to_json(report.per_token)},
          {"request_s", to_json(report.whole)},
          {"stopped", report.is_stopped},
          {"note", report.warning}};
}

std::string without_api_path(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  for (const std::string_view path : {"/chat/completions", "/completions", "/generate"})
    if (url.ends_with(path)) url.resize(url.size() - path.size());
  if (constexpr std::string_view version = "/v1"; url.ends_with(version))
    url.resize(url.size() - version.size());
  while (url.ends_with('/')) url.pop_back();
  return url;
}

struct PendingGet::State {
  State(const std::string& address, std::chrono::milliseconds limit, std::size_t max,
        const HttpHeaders& given, std::string posted)
      : url(address),
        body(std::move(posted)),
        max_size(max),
        handle(::curl_easy_init(), ::curl_easy_cleanup),
        multi(::curl_multi_init()) {
    for (const auto& [name, value] : given) {
      // libcurl's own form of a header without a value.
      const std::string line = value.empty() ? name + ";" : fmt::format("{}: {}", name, value);
      list.reset(::curl_slist_append(list.release(), line.c_str()));
    }
    if (!body.empty()) {
      list.reset(::curl_slist_append(list.release(), "Content-Type: application/json"));
      ::curl_easy_setopt(handle.get(), CURLOPT_POSTFIELDS, body.c_str());
    }
    ::curl_easy_setopt(handle.get(), CURLOPT_HTTPHEADER, list.get());
    ::curl_easy_setopt(handle.get(), CURLOPT_URL, url.c_str());
    ::curl_easy_setopt(handle.get(), CURLOPT_PROTOCOLS_STR, "http,https");
    ::curl_easy_setopt(handle.get(), CURLOPT_PROXY, "");
    ::curl_easy_setopt(handle.get(), CURLOPT_NOSIGNAL, 1L);
    ::curl_easy_setopt(handle.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(limit.count()));
    ::curl_easy_setopt(handle.get(), CURLOPT_WRITEFUNCTION, &State::append);
    ::curl_easy_setopt(handle.get(), CURLOPT_WRITEDATA, this);
    ::curl_easy_setopt(handle.get(), CURLOPT_HEADERFUNCTION, &State::count_header);
    ::curl_easy_setopt(handle.get(), CURLOPT_HEADERDATA, this);

    ::curl_multi_add_handle(multi, handle.get());
  }
  ~State() {
    ::curl_multi_remove_handle(multi, handle.get());
    ::curl_multi_cleanup(multi);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  // Headers and trailers: libcurl bounds each line, not the total.
  static std::size_t count_header(char*, std::size_t size, std::size_t count, void* user) {
    State& state = *static_cast<State*>(user);
    state.headers += size * count;
    return state.headers > max_headers ? 0 : size * count;
  }

  // Returning less than was given ends the transfer (CURLE_WRITE_ERROR).
  static std::size_t append(char* data, std::size_t size, std::size_t count, void* user) {
    State& state = *static_cast<State*>(user);
    state.is_too_large = state.answer.body.size() + size * count > state.max_size;
    if (state.is_too_large) return 0;
    state.answer.body.append(data, size * count);
    return size * count;
  }

  Result<HttpAnswer> finished(CURLcode code) {
    if (is_too_large)
      return fail("too_large", "{}: an answer of more than {} bytes", url, max_size);
    // libcurl reports a line past its own limit as out of memory.
    if (headers > max_headers || code == CURLE_OUT_OF_MEMORY)
      return fail("too_large", "{}: an answer whose headers do not end", url);
    if (code != CURLE_OK) return fail("connection", "{}: {}", url, ::curl_easy_strerror(code));
    ::curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &answer.status);
    return std::move(answer);
  }

  static constexpr std::size_t max_headers = 256 << 10;
  std::unique_ptr<curl_slist, void (*)(curl_slist*)> list{nullptr, ::curl_slist_free_all};
  std::string url, body;
  std::size_t max_size, headers = 0;
  HttpAnswer answer;
  bool is_too_large = false;
  CurlHandle handle;
  CURLM* multi;
};

PendingGet::PendingGet(const std::string& url, std::chrono::milliseconds limit,
                       std::size_t max_size, const HttpHeaders& headers, std::string posted)
    : state_(std::make_unique<State>(url, limit, max_size, headers, std::move(posted))) {}
PendingGet::PendingGet(PendingGet&&) noexcept = default;
PendingGet& PendingGet::operator=(PendingGet&&) noexcept = default;
PendingGet::~PendingGet() = default;

std::optional<Result<HttpAnswer>> PendingGet::poll() {
  int running = 0, left = 0;
  ::curl_multi_perform(state_->multi, &running);
  const CURLMsg* const message = ::curl_multi_info_read(state_->multi, &left);
  if (message == nullptr || message->msg != CURLMSG_DONE) return std::nullopt;
  return state_->finished(message->data.result);
}

void PendingGet::wait(std::chrono::milliseconds limit) {
  ::curl_multi_poll(state_->multi, nullptr, 0, static_cast<int>(limit.count()), nullptr);
}

namespace {

Result<HttpAnswer> finished(PendingGet& request) {
  for (;;) {
    if (auto answer = request.poll()) return std::move(*answer);
    if (stop_signal() != 0) return fail("interrupted", "interrupted");
    request.wait(std::chrono::milliseconds(100));
  }
}

}  // namespace

Result<HttpAnswer> http_get(const std::string& url, std::chrono::milliseconds limit,
                            std::size_t max_size, const HttpHeaders& headers) {
  PendingGet request(url, limit, max_size, headers);
  return finished(request);
}

void choose_api(TrafficOptions& options, std::optional<Endpoint> given, bool has_text) {
  constexpr auto limit = std::chrono::seconds(5);

  // A route that takes no GET answers with a different status than a missing one.
  const auto ask = [&](const char* path) {
    return http_get(options.url + path, limit, max_information, options.headers);
  };
  if (given) {
    options.endpoint = *given;
  } else {
    const auto answer = ask("/generate");
    bool has_generate = !answer || answer->status != 404;
    // A server that answers a GET there may answer anything: only a request tells.
    if (answer && answer->status == 200) {
      PendingGet request(options.url + "/generate", limit, max_information, options.headers, "{}");
      const auto posted = finished(request);
      has_generate = !posted || posted->status != 404;
    }
    options.endpoint = has_generate ? Endpoint::generate
                       : has_text   ? Endpoint::chat
                                    : Endpoint::completions;
  }
  if (options.endpoint == Endpoint::generate) return;
  const bool has_key = std::ranges::any_of(
      options.headers, [](const auto& header) { return header.first == "Authorization"; });
  const char* const key = std::getenv("OPENAI_API_KEY");
  if (!has_key && key != nullptr && *key != '\0' &&
      std::string_view(key).find_first_of("\r\n") == std::string_view::npos)
    options.headers.emplace_back("Authorization", std::string("Bearer ") + key);
  if (!options.model.empty()) return;
  const auto answer = ask("/v1/models");
  const auto models = answer && answer->status == 200 ? parse_json(answer->body) : std::nullopt;
  if (models && models->is_object() && models->contains("data") && models->at("data").is_array() &&
      !models->at("data").empty())
    options.model = string_member(models->at("data").front(), "id");
}

}  // namespace cw
