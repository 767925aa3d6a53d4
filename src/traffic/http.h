// HTTP/1.1 as a load generator needs it: many keep-alive connections to one server, responses in
// pieces as they arrive. Boost.Beast's parser does the framing (headers, chunks); a piece costs one
// recv() and no allocation. libcurl, which was used before, handles every transfer twice per
// wake-up (7.88, multi_socket()) and cost three times as much.
//
// Nothing of a response is kept except by its reader. What a server can make the client buffer or
// wait for is bounded:
//
//   status line and headers     256 KB, and the same for a chunk's size line with its extensions
//   a line of an event stream   1 MB (event_stream.h)
//   a response other than 200   1 MB
//   headers of single requests  256 KB, including trailers
//   /health                     1 MB; server information 16 MB and a million values (traffic.h)
//   one turn of a connection    16 blocks of 64 KB; then the others and signals have theirs
//   a request                   TrafficOptions: `timeout` without an event, `max_length` in total,
//                               `max_extra_events`
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/socket.h>

#include "base/file.h"
#include "base/result.h"

namespace cw {

/// Names and values, without line breaks.
using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

/// Where requests go.
class HttpServer {
 public:
  /// "http://host:port", optionally with a path that prefixes those of the requests. `headers` are
  /// sent with every request. Error codes: "url_unsupported" (https: put a proxy in front),
  /// "connection" (no such host).
  static Result<HttpServer> resolve(const std::string& url, const HttpHeaders& headers = {});

  /// A non-blocking socket that is connecting; invalid if there are no more sockets.
  FileDescriptor connect() const;
  /// Which of the host's addresses connect() uses.
  std::size_t address() const { return current_; }
  /// A connection to address `failed` could not be established: moves on to the next one, if there
  /// is one and none was ever reached.
  bool try_other_address(std::size_t failed);
  void note_reached() { was_reached_ = true; }
  /// The bytes of a request with a JSON body.
  std::string post(std::string_view path, std::string_view body) const;

 private:
  struct Address {
    sockaddr_storage storage;
    socklen_t size;
  };
  std::vector<Address> addresses_;
  std::size_t current_ = 0;
  bool was_reached_ = false;
  std::string authority_, prefix_, headers_;
};

/// One request and its response on a connection.
class HttpExchange {
 public:
  enum class State {
    under_way,
    has_more,  ///< under way, with more to read immediately
    done,
    unreachable,  ///< could not connect
    stale,        ///< the kept-alive connection had been closed; nothing was answered
    broken,       ///< the connection broke midway
    malformed,    ///< what was received is not HTTP
    timed_out,    ///< set by the caller
  };
  enum class Connection { fresh, reused };  ///< reused: it served an exchange before
  HttpExchange(FileDescriptor socket, Connection connection);
  HttpExchange(HttpExchange&&) noexcept;
  HttpExchange& operator=(HttpExchange&&) noexcept;
  ~HttpExchange();

  /// Sends as much of `request` as possible now; advance() must be passed the same `request`.
  void start(std::string_view request);
  /// The socket is ready: sends the rest, reads what is there. `has_ended`: the server has closed
  /// its side, so everything must be read now. `body` is called with the pieces of a response with
  /// status 200.
  State advance(std::string_view request, bool has_ended,
                const std::function<void(std::string_view)>& body);

  int socket() const;
  bool is_sent() const;                 ///< the whole request
  unsigned status() const;              ///< of the response; 0 before it
  const std::string& rejected() const;  ///< the start of a response with a status other than 200
  const std::string& error() const;     ///< what broke
  /// The response is complete and the server keeps the connection open.
  bool is_reusable() const;
  FileDescriptor release();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cw
