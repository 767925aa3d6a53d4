#include "simulated/server.h"

#include <cstdio>
#include <memory>

#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "base/process.h"

namespace cw::simulated {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Tcp = asio::ip::tcp;

constexpr std::string_view server_name = "collect-workloads (simulated)";
// Limits on what clients can make us hold or wait for. A client that is idle, or neither reads nor
// sends, for this long is dropped.
constexpr std::size_t max_body = 8 << 20,
                      max_bodies = 64 << 20;  ///< of one request; of all being read
constexpr std::size_t max_unsent = 1 << 20;   ///< of an answer, before its reader is too slow
constexpr std::size_t max_connections = 8192;
constexpr std::chrono::seconds idle_limit{120}, transfer_limit{30};
constexpr std::chrono::milliseconds accept_pause{100};  ///< when out of descriptors
constexpr std::int64_t max_answer = 1 << 20;

// Words, and pieces of words of at most four letters: about as many tokens as a real tokenizer
// makes of English.
std::vector<std::int32_t> tokenize(std::string_view text) {
  std::vector<std::int32_t> tokens;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i + 1;
    while (end < text.size() && end - i < 5 && text[end] != ' ' && text[end] != '\n') ++end;
    std::uint32_t hash = 2166136261u;
    for (; i < end; ++i) hash = (hash ^ static_cast<unsigned char>(text[i])) * 16777619u;
    tokens.push_back(static_cast<std::int32_t>(hash % 30'000));
  }
  if (tokens.empty()) tokens.push_back(1);
  return tokens;
}

template <typename T>
T number(const Json& object, const char* name, T otherwise) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number() ? found->get<T>() : otherwise;
}

// What all connections share. The context is destroyed with what still waits in it: connections,
// which count themselves out here.
struct Service {
  explicit Service(const ServerOptions& given) : options(given) {}
  const ServerOptions& options;
  std::size_t connections = 0;
  std::size_t body_bytes = 0;  ///< announced by requests that are being read
  asio::io_context context{1};
  asio::steady_timer ready_at{context}, signals{context}, accept_again{context};
  bool is_ready = false;
  std::unique_ptr<Scheduler> scheduler;
};

// One connection: requests one after another, answers streamed as tokens come.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Tcp::socket socket, Service& service)
      : socket_(std::move(socket)),
        service_(service),
        timer_(service.context),
        watchdog_(service.context) {
    ++service_.connections;
  }
  ~Session() {
    --service_.connections;
    give_back_body();
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void read() {
    parser_.emplace();
    parser_->body_limit(max_body);
    expect_within(idle_limit);
    http::async_read_header(socket_, buffer_, *parser_,
                            [self = shared_from_this()](beast::error_code error, std::size_t) {
                              if (!error) self->read_body();
                            });
  }

 private:
  void read_body() {
    // An unknown length counts as the largest.
    announced_ = static_cast<std::size_t>(std::min<std::uint64_t>(
        parser_->content_length().value_or(parser_->chunked() ? max_body : 0), max_body));
    service_.body_bytes += announced_;
    if (service_.body_bytes > max_bodies) {
      request_ = {};
      request_.keep_alive(false);
      return answer(503, R"({"error": {"message": "too many large requests at a time"}})");
    }
    expect_within(transfer_limit);
    http::async_read(socket_, buffer_, *parser_,
                     [self = shared_from_this()](beast::error_code error, std::size_t) {
                       self->watchdog_.cancel();
                       if (!error) self->handle();
                       self->give_back_body();
                     });
  }

  void give_back_body() { service_.body_bytes -= std::exchange(announced_, 0); }

  // Closes the connection if the client stays silent until then; what waits for it fails.
  void expect_within(std::chrono::seconds limit) {
    watchdog_.expires_after(limit);
    watchdog_.async_wait([weak = weak_from_this()](beast::error_code error) {
      const auto self = weak.lock();
      if (!error && self) self->drop();
    });
  }

  void drop() {
    beast::error_code ignored;
    socket_.close(ignored);
    is_done_ = true;
    if (service_.scheduler && id_ != 0) service_.scheduler->cancel(id_);
  }

  enum class Format { generate, completion, chat };

  void handle() {
    request_ = parser_->release();
    const std::string path(request_.target().substr(0, request_.target().find('?')));
    // It counts as held until handle() returns.
    const std::string body = std::exchange(request_.body(), {});
    if (path == "/health" || path == "/health_generate") return health();
    if (path == "/server_info" || path == "/get_server_info") return answer(200, dump(info()));
    if (path == "/get_model_info" || path == "/model_info")
      return answer(200, dump({{"model_path", service_.options.model}, {"is_generation", true}}));
    if (path == "/v1/models")
      return answer(
          200,
          dump({{"object", "list"},
                {"data", Json::array({{{"id", service_.options.model}, {"object", "model"}}})}}));
    if (path == "/flush_cache" || path == "/abort_request") return answer(200, "{}");
    if (!service_.is_ready) return answer(503, R"({"error": {"message": "not ready"}})");
    if (path == "/generate") return generate(body, Format::generate);
    if (path == "/v1/completions") return generate(body, Format::completion);
    if (path == "/v1/chat/completions") return generate(body, Format::chat);
    answer(404, R"({"error": {"message": "no such endpoint"}})");
  }

  void health() {
    if (!service_.is_ready) return answer(503, "");
    timer_.expires_after(std::chrono::milliseconds(
        static_cast<std::int64_t>(service_.options.health_seconds * 1000)));
    timer_.async_wait([self = shared_from_this()](beast::error_code) { self->answer(200, ""); });
  }

  Json info() const {
    const SchedulerOptions& scheduler = service_.options.scheduler;
    return {{"model_path", service_.options.model},
            {"version", "simulated"},
            {"simulated", true},
            {"max_total_num_tokens", scheduler.max_total_tokens},
            {"page_size", 1},
            {"tp_size", scheduler.tensor_parallel},
            {"chunked_prefill_size", scheduler.chunked_prefill_size},
            {"max_running_requests", scheduler.max_running},
            {"disable_radix_cache", !scheduler.has_prefix_cache},
            {"internal_states", Json::array({{{"avg_spec_accept_length", nullptr}}})}};
  }

  void answer(unsigned status, std::string body) {
    head_ = fmt::format(
        "HTTP/1.1 {} {}\r\nServer: {}\r\nContent-Type: application/json\r\nContent-Length: "
        "{}\r\n\r\n{}",
        status, std::string(http::obsolete_reason(static_cast<http::status>(status))), server_name,
        body.size(), body);
    expect_within(transfer_limit);
    asio::async_write(socket_, asio::buffer(head_),
                      [self = shared_from_this()](beast::error_code error, std::size_t) {
                        self->watchdog_.cancel();
                        if (!error && self->request_.keep_alive()) self->read();
                      });
  }

  void bad_request(const char* what) { answer(400, dump({{"error", {{"message", what}}}})); }

  // Each format has its own field for the prompt; empty if it is missing.
  static std::vector<std::int32_t> prompt_of(const Json& body, Format format) {
    const auto text_or_ids = [&body](const char* text, const char* ids) {
      if (const auto found = body.find(text); found != body.end() && found->is_string())
        return tokenize(found->get<std::string>());
      std::vector<std::int32_t> prompt;
      if (const auto found = body.find(ids); found != body.end() && found->is_array())
        for (const Json& id : *found) prompt.push_back(id.is_number() ? id.get<int>() : 0);
      return prompt;
    };
    switch (format) {
      case Format::generate:
        return text_or_ids("text", "input_ids");
      case Format::completion:
        return text_or_ids("prompt", "prompt");
      case Format::chat:
        break;
    }

    const auto messages = body.find("messages");
    if (messages == body.end() || !messages->is_array()) return {};
    std::string text;
    for (const Json& message : *messages)
      if (message.is_object())
        text += string_member(message, "role") + "\n" + string_member(message, "content") + "\n";
    return tokenize(text);
  }

  void generate(std::string_view content, Format format) {
    using Fault = ServerOptions::Fault;
    if (service_.options.fault == Fault::error_500)
      return answer(500, R"({"error": {"message": "internal"}})");
    const auto body = parse_json(content);
    if (!body || !body->is_object()) return bad_request("the body is not a JSON object");

    GenerateRequest request;
    format_ = format;
    is_streaming_ = bool_member(*body, "stream");
    has_usage_ = body->contains("stream_options");
    const auto nested = body->find("sampling_params");
    const bool has_nested =
        format == Format::generate && nested != body->end() && nested->is_object();
    const Json& parameters = has_nested ? *nested : *body;
    request.prompt = prompt_of(*body, format);
    if (request.prompt.empty()) return bad_request("no prompt");

    // How the answer is sampled, and how long it becomes.
    const char* const limit = format == Format::generate ? "max_new_tokens" : "max_tokens";
    request.max_new_tokens = std::clamp<std::int64_t>(
        number<std::int64_t>(parameters, limit,
                             number<std::int64_t>(parameters, "max_completion_tokens", 128)),
        1, max_answer);
    const auto top_k = number<std::int64_t>(parameters, "top_k", -1);
    request.top_k = top_k > 0 && top_k < 1 << 30 ? static_cast<std::int32_t>(top_k) : 1 << 30;
    request.top_p = number<float>(parameters, "top_p", 1);
    request.is_greedy = number<double>(parameters, "temperature", 1) == 0 || top_k == 1;

    prompt_tokens_ = static_cast<std::int64_t>(request.prompt.size());
    if (prompt_tokens_ + request.max_new_tokens > service_.options.scheduler.max_total_tokens)
      return bad_request("the request is longer than the KV pool");
    pieces_.clear();
    is_writing_ = is_done_ = false;
    text_.clear();

    request.on_token = [self = shared_from_this()](const TokenEvent& event) {
      asio::post(self->service_.context, [self, event] { self->take(event); });
    };
    if (is_streaming_)
      pieces_ = fmt::format(
          "HTTP/1.1 200 OK\r\nServer: {}\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
          "Transfer-Encoding: chunked\r\n\r\n",
          server_name);
    id_ = service_.scheduler->submit(std::move(request));
  }

  void take(const TokenEvent& event) {
    if (is_done_) return;
    text_ += event.text;
    if (service_.options.fault == ServerOptions::Fault::garbage) {
      chunk(std::string("\x80\xff} {not an event\n\n", 18));
    } else if (is_streaming_) {
      chunk("data: " + dump(piece(event)) + "\n\n");
      if (event.is_last && has_usage_ && format_ != Format::generate)
        chunk("data: " + dump({{"choices", Json::array()}, {"usage", usage(event)}}) + "\n\n");
    }
    if (!event.is_last) return write();
    is_done_ = true;
    if (!is_streaming_) return answer(200, dump(whole(event)));
    chunk("data: [DONE]\n\n");
    pieces_ += "0\r\n\r\n";
    write();
  }

  Json usage(const TokenEvent& event) const {
    return {{"prompt_tokens", prompt_tokens_},
            {"completion_tokens", event.tokens},
            {"total_tokens", prompt_tokens_ + event.tokens}};
  }

  Json meta(const TokenEvent& event) const {
    Json meta = {{"id", std::to_string(id_)},
                 {"finish_reason", nullptr},
                 {"prompt_tokens", prompt_tokens_},
                 {"completion_tokens", event.tokens},
                 {"cached_tokens", 0}};
    if (event.is_last) meta["finish_reason"] = {{"type", "length"}, {"length", event.tokens}};
    return meta;
  }

  Json piece(const TokenEvent& event) const {
    const Json reason = event.is_last ? Json("length") : Json(nullptr);
    if (format_ == Format::generate)
      return {{"text", text_}, {"output_ids", Json::array()}, {"meta_info", meta(event)}};
    if (format_ == Format::completion)
      return {{"id", std::to_string(id_)},
              {"object", "text_completion"},
              {"choices",
               Json::array({{{"index", 0}, {"text", event.text}, {"finish_reason", reason}}})}};
    return {{"id", std::to_string(id_)},
            {"object", "chat.completion.chunk"},
            {"choices", Json::array({{{"index", 0},
                                      {"delta", {{"role", "assistant"}, {"content", event.text}}},
                                      {"finish_reason", reason}}})}};
  }

  Json whole(const TokenEvent& event) const {
    if (format_ == Format::generate) return {{"text", text_}, {"meta_info", meta(event)}};
    Json choice = {{"index", 0}, {"finish_reason", "length"}};
    if (format_ == Format::completion)
      choice["text"] = text_;
    else
      choice["message"] = {{"role", "assistant"}, {"content", text_}};
    return {
        {"id", std::to_string(id_)}, {"choices", Json::array({choice})}, {"usage", usage(event)}};
  }

  void chunk(const std::string& content) {
    pieces_ += fmt::format("{:x}\r\n{}\r\n", content.size(), content);
  }

  // Writes what has accumulated; what comes meanwhile goes with the next write.
  void write() {
    if (is_writing_ && pieces_.size() > std::max(max_unsent, 4 * text_.size()))
      return drop();  // the client does not read
    if (is_writing_ || pieces_.empty()) return;
    is_writing_ = true;
    expect_within(transfer_limit);
    sending_.swap(pieces_);
    pieces_.clear();
    asio::async_write(socket_, asio::buffer(sending_),
                      [self = shared_from_this()](beast::error_code error, std::size_t) {
                        self->is_writing_ = false;
                        self->watchdog_.cancel();
                        if (error) {
                          self->is_done_ = true;
                          return self->service_.scheduler->cancel(self->id_);
                        }
                        if (!self->pieces_.empty()) return self->write();
                        if (self->is_done_ && self->request_.keep_alive()) self->read();
                      });
  }

  Tcp::socket socket_;
  Service& service_;
  asio::steady_timer timer_, watchdog_;
  beast::flat_buffer buffer_{max_body + (64 << 10)};
  std::size_t announced_ = 0;  ///< of the body being read
  std::optional<http::request_parser<http::string_body>> parser_;
  http::request<http::string_body> request_;
  Format format_ = Format::generate;
  std::string head_, pieces_, sending_, text_;
  std::uint64_t id_ = 0;
  std::int64_t prompt_tokens_ = 0;
  bool is_streaming_ = false, has_usage_ = false, is_writing_ = false, is_done_ = false;
};

void accept(Tcp::acceptor& acceptor, Service& service) {
  acceptor.async_accept([&](beast::error_code error, Tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (error) {  // most likely out of descriptors: accepting again at once would only spin
      service.accept_again.expires_after(accept_pause);
      service.accept_again.async_wait([&](beast::error_code) { accept(acceptor, service); });
      return;
    }
    if (service.connections < max_connections) {
      socket.set_option(Tcp::no_delay(true), error);
      std::make_shared<Session>(std::move(socket), service)->read();
    }
    accept(acceptor, service);
  });
}

void poll_signals(Service& service) {
  service.signals.expires_after(std::chrono::milliseconds(50));
  service.signals.async_wait([&service](beast::error_code) {
    if (stop_signal() != 0) return service.context.stop();
    poll_signals(service);
  });
}

}  // namespace

Result<void> serve(const ServerOptions& options) {
  using Fault = ServerOptions::Fault;
  Service service(options);
  beast::error_code error;
  const auto address = asio::ip::make_address(options.host, error);
  if (error) return fail("unservable", "'{}' is not an address", options.host);
  Tcp::acceptor acceptor(service.context);
  const Tcp::endpoint endpoint(address, options.port);
  acceptor.open(endpoint.protocol(), error);
  acceptor.set_option(asio::socket_base::reuse_address(true), error);
  acceptor.bind(endpoint, error);
  if (error)
    return fail(error == asio::error::address_in_use ? "port_taken" : "unservable",
                "cannot listen on {}:{}: {}", options.host, options.port, error.message());
  if (options.fault == Fault::refuse) return fail("unservable", "told to refuse to start");
  acceptor.listen(4096, error);
  if (error)
    return fail("unservable", "cannot listen on {}:{}: {}", options.host, options.port,
                error.message());

  service.ready_at.expires_after(
      std::chrono::milliseconds(static_cast<std::int64_t>(options.load_seconds * 1000)));
  service.ready_at.async_wait([&](beast::error_code) {
    if (options.fault == Fault::die_loading) {
      std::fputs(
          "Loading weights\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 "
          "GiB.\n",
          stderr);
      std::_Exit(1);
    }
    service.scheduler = std::make_unique<Scheduler>(
        options.scheduler, DumpOptions::from_environment(), options.misbehaviour);
    service.is_ready = true;
    std::fputs("The server is fired up and ready to roll!\n", stderr);
  });
  accept(acceptor, service);
  poll_signals(service);
  service.context.run();
  return {};
}

}  // namespace cw::simulated
