// HTTP requests to the Hub and the storage it refers to, by libcurl: the token is sent to one
// origin only, redirects are followed by hand, and repeatable requests are retried.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "submit/token.h"

namespace cw {

/// A piece of a file, as a request's body.
struct FilePart {
  std::filesystem::path path;
  std::uint64_t offset = 0, size = 0;
};

struct WebRequest {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers{};  ///< "Name: value"
  std::string body{};
  std::optional<FilePart> file{};  ///< instead of `body`
  /// A response with status 200 is saved to this file, atomically.
  std::filesystem::path save_to{};
  std::uint64_t max = std::uint64_t{1} << 30;  ///< bytes of a saved response
  bool is_repeatable = true;                   ///< idempotent
  bool is_interruptible = true;                ///< a signal may abort it before the response
};

struct WebResponse {
  long status = 0;
  std::map<std::string, std::string> headers{};  ///< names in lower case
  std::string body{};
  std::string header(const std::string& name) const;
};

struct WebOptions {
  std::size_t tries = 5;                       ///< of a request that may be repeated
  std::chrono::milliseconds first_pause{500};  ///< doubles with every retry
  std::chrono::seconds max_pause{300};         ///< longest Retry-After honoured
  std::chrono::seconds stall_limit{60};        ///< without a byte
  std::function<void(const std::string&)> note = [](const std::string&) {
  };  ///< why a request is retried; called from any thread
};

/// Thread-safe.
class WebClient {
 public:
  /// The token is sent only to `endpoint`'s origin (scheme, host, port), even after redirects. It
  /// may be null.
  WebClient(const Secret* token, std::string endpoint, WebOptions options);
  ~WebClient();

  /// Any status is a response. Failures without one are retried, as are 429, 500, 502, 503 and 504,
  /// if the request is repeatable; 429 even if not, because nothing was done. Error codes:
  /// "connection" (could not connect), "answer_lost" (the connection broke later, so the request
  /// may have been executed), "tls", "redirect", "interrupted", "too_large".
  Result<WebResponse> send(const WebRequest& request);

  /// Bytes of bodies sent so far.
  std::uint64_t sent() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// For messages: a URL without its credentials (query, user and password).
std::string printable_url(const std::string& url);

/// Escapes all but letters, digits and -._~ and what is in `kept` (RFC 3986, 2.1).
std::string percent_encoded(std::string_view text, std::string_view kept = "");

}  // namespace cw
