#include "traffic/http.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

namespace cw {
namespace {

namespace http = boost::beast::http;

constexpr std::size_t receive_size = 64 << 10;
constexpr std::size_t max_rejected_shown = 300;
constexpr std::uint64_t max_rejected = 1 << 20;  ///< bytes read of an answer other than 200
constexpr std::uint32_t max_header = 256 << 10;
constexpr std::size_t min_end = 5;  ///< 0 CR LF CR LF
constexpr int max_blocks = 16;      ///< at a time, per connection

}  // namespace

Result<HttpServer> HttpServer::resolve(const std::string& url, const HttpHeaders& headers) {
  constexpr std::string_view scheme = "http://";
  if (!url.starts_with(scheme))
    return url.find("://") == std::string::npos
               ? fail("url_unsupported", "'{0}' has no scheme; write http://{0}", url)
               : fail("url_unsupported",
                      "'{}': only http:// is supported; use a forwarding proxy for anything else",
                      url);
  HttpServer server;
  for (const auto& [name, value] : headers)
    server.headers_ += fmt::format("{}: {}\r\n", name, value);
  const std::string rest = url.substr(scheme.size());
  server.authority_ = rest.substr(0, rest.find('/'));
  if (server.authority_.size() < rest.size())
    server.prefix_ = rest.substr(server.authority_.size());
  while (server.prefix_.ends_with('/')) server.prefix_.pop_back();

  // host, host:port, [::1], [::1]:port
  std::string host = server.authority_, port = "80";
  const std::size_t bracket = host.starts_with('[') ? host.find(']') : std::string::npos;
  const std::size_t colon = host.find(':', bracket == std::string::npos ? 0 : bracket);
  if (colon != std::string::npos) {
    port = host.substr(colon + 1);
    host.resize(colon);
  }
  if (bracket != std::string::npos) host = host.substr(1, bracket - 1);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0)
    return fail("connection", "{}: {}", url, ::gai_strerror(error));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, ::freeaddrinfo);
  for (const addrinfo* item = found; item != nullptr; item = item->ai_next) {
    Address address{{}, item->ai_addrlen};
    std::memcpy(&address.storage, item->ai_addr, item->ai_addrlen);
    server.addresses_.push_back(address);
  }
  return server;
}

FileDescriptor HttpServer::connect() const {
  const Address& address = addresses_[current_];
  FileDescriptor socket(
      ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return socket;
  const int yes = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  // The first send() reports the result, even a refusal.
  (void)::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.size);
  return socket;
}

bool HttpServer::try_other_address(std::size_t failed) {
  if (was_reached_ || failed + 1 >= addresses_.size()) return false;
  current_ = std::max(current_, failed + 1);
  return true;
}

std::string HttpServer::post(std::string_view path, std::string_view body) const {
  return fmt::format(
      "POST {}{} HTTP/1.1\r\nHost: {}\r\n{}Content-Type: application/json\r\nContent-Length: "
      "{}\r\n\r\n{}",
      prefix_, path, authority_, headers_, body.size(), body);
}

struct HttpExchange::Impl {
  Impl(FileDescriptor opened, bool reused) : socket(std::move(opened)), is_reused(reused) {
    begin_answer();
  }

  void begin_answer() {
    parser.emplace();
    parser->eager(true);
    parser->header_limit(max_header);
    // Only the lines of a stream are kept. (Without any limit set, Beast 1.74 refuses every answer
    // that states its length.)
    parser->body_limit(std::numeric_limits<std::uint64_t>::max());
    parser->on_chunk_body(on_chunk);  // by reference
  }

  State fail_with(State state, std::string what) {
    error = std::move(what);
    return state;
  }

  // Without any byte of the answer: could not connect, or closed while idle.
  State lost(int code) {
    if (is_reused && !has_answer) return State::stale;
    const State state = has_answer || sent > 0 ? State::broken : State::unreachable;
    return fail_with(state, code == 0 ? "the server closed the connection" : std::strerror(code));
  }

  // Nothing on success.
  std::optional<State> send(std::string_view request) {
    while (sent < request.size()) {
      const ssize_t count =
          ::send(socket.get(), request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
      if (count < 0 && errno == EAGAIN) return std::nullopt;
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return lost(errno);
      sent += static_cast<std::size_t>(count);
    }
    return std::nullopt;
  }

  State receive(bool has_ended, const std::function<void(std::string_view)>& body) {
    thread_local std::string block(receive_size, '\0');
    for (int blocks = 0; blocks < max_blocks; ++blocks) {
      const ssize_t count = ::recv(socket.get(), block.data(), block.size(), 0);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno == EAGAIN) return State::under_way;
      if (count < 0) return lost(errno);
      if (count == 0) return end();
      has_answer = true;
      const State state = guarded_parse({block.data(), static_cast<std::size_t>(count)}, body);
      if (state != State::under_way) return state;
      if (static_cast<std::size_t>(count) < block.size() && !has_ended) return state;
    }
    return State::has_more;
  }

  // An answer without a length ends with the connection.
  State end() {
    if (!has_answer || parser->is_done()) return lost(0);
    boost::system::error_code code;
    parser->put_eof(code);
    if (code || !parser->is_done()) return lost(0);
    return State::done;
  }

  // Beast throws on a field of more than 64 KB.
  State guarded_parse(std::string_view bytes, const std::function<void(std::string_view)>& body) {
    try {
      return parse(bytes, body);
    } catch (const std::exception& thrown) {
      return fail_with(State::malformed, thrown.what());
    }
  }

  State parse(std::string_view bytes, const std::function<void(std::string_view)>& body) {
    thread_local std::string plain(2 * max_header,
                                   '\0');  // of a body without chunks, until it is passed on

    sink = &body;
    if (!rest.empty()) {
      rest += bytes;
      // Shorter than any last chunk: Beast does not search so few bytes for its end a second time.
      if (rest.size() < min_end) return State::under_way;
      bytes = rest;
    }

    while (!bytes.empty() && !parser->is_done()) {
      boost::system::error_code code;
      parser->get().body() = {plain.data(), plain.size(), true};
      const std::size_t given = std::min(bytes.size(), plain.size());
      const std::size_t used = parser->put(boost::asio::buffer(bytes.data(), given), code);
      if (const std::size_t taken = plain.size() - parser->get().body().size; taken > 0)
        take({plain.data(), taken});

      bytes.remove_prefix(used);
      const bool needs_more = code == http::error::need_more && given == bytes.size() + used;
      if (code == http::error::need_more || code == http::error::need_buffer) code = {};
      if (code) return fail_with(State::malformed, code.message());
      if (used == 0 || needs_more) break;  // the rest of a header or chunk size is still to come
      if (parser->is_done() && status() / 100 == 1)
        begin_answer();  // 100 Continue: the answer follows
    }

    if (rejected_bytes > max_rejected)
      return fail_with(State::malformed,
                       fmt::format("HTTP {} with more than {} bytes", status(), max_rejected));
    if (!parser->is_done() && bytes.size() > max_header)
      return fail_with(State::malformed,
                       fmt::format("a header or chunk size of more than {} bytes", max_header));

    std::string left(bytes);
    rest.swap(left);
    return parser->is_done() ? State::done : State::under_way;
  }

  void take(std::string_view piece) {
    if (status() == 200) return (*sink)(piece);
    rejected_bytes += piece.size();
    if (rejected.size() < max_rejected_shown)
      rejected += piece.substr(0, max_rejected_shown - rejected.size());
  }

  unsigned status() const { return parser->is_header_done() ? parser->get().result_int() : 0; }

  FileDescriptor socket;
  bool is_reused, has_answer = false;
  std::size_t sent = 0, wanted = 0;
  const std::function<void(std::string_view)>* sink = nullptr;  ///< while parse() runs
  std::function<std::size_t(std::uint64_t, boost::beast::string_view, boost::system::error_code&)>
      on_chunk =
          [this](std::uint64_t, boost::beast::string_view piece, boost::system::error_code&) {
            take({piece.data(), piece.size()});
            return piece.size();
          };
  std::optional<http::response_parser<http::buffer_body>> parser;
  std::string rest;  ///< of an incomplete header or chunk size
  std::string rejected, error;
  std::uint64_t rejected_bytes = 0;
  std::optional<State> failed;  ///< while sending
};

HttpExchange::HttpExchange(FileDescriptor socket, Connection connection)
    : impl_(std::make_unique<Impl>(std::move(socket), connection == Connection::reused)) {}
HttpExchange::HttpExchange(HttpExchange&&) noexcept = default;
HttpExchange& HttpExchange::operator=(HttpExchange&&) noexcept = default;
HttpExchange::~HttpExchange() = default;

void HttpExchange::start(std::string_view request) {
  impl_->wanted = request.size();
  impl_->failed = impl_->send(request);
}

HttpExchange::State HttpExchange::advance(std::string_view request, bool has_ended,
                                          const std::function<void(std::string_view)>& body) {
  if (!impl_->socket)
    return impl_->fail_with(State::unreachable, "no more sockets: raise `ulimit -n`");
  if (!impl_->failed && !is_sent()) impl_->failed = impl_->send(request);
  if (impl_->failed) return *impl_->failed;
  return impl_->receive(has_ended, body);
}

int HttpExchange::socket() const {
  return impl_->socket.get();
}

bool HttpExchange::is_sent() const {
  return impl_->sent == impl_->wanted;
}

unsigned HttpExchange::status() const {
  return impl_->status();
}

const std::string& HttpExchange::rejected() const {
  return impl_->rejected;
}

const std::string& HttpExchange::error() const {
  return impl_->error;
}

bool HttpExchange::is_reusable() const {
  return is_sent() && impl_->parser->is_done() && impl_->parser->get().keep_alive() &&
         impl_->rest.empty();
}

FileDescriptor HttpExchange::release() {
  return std::move(impl_->socket);
}

}  // namespace cw
