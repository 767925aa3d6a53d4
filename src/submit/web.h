// HTTP requests to the Hub and to the stores that it names, by libcurl: a token that leaves for one
// origin only, redirects by hand, retries of what may be repeated.
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
  /// An answer with status 200 goes into this file, whole or not at all.
  std::filesystem::path save_to{};
  std::uint64_t max = std::uint64_t{1} << 30;  ///< bytes of an answer in a file
  bool is_repeatable = true;                   ///< doing it twice is as good as once
  bool is_interruptible = true;  ///< whether a signal ends it before its answer has come
};

struct WebResponse {
  long status = 0;
  std::map<std::string, std::string> headers{};  ///< names in lower case
  std::string body{};
  std::string header(const std::string& name) const;
};

struct WebOptions {
  std::size_t tries = 5;                       ///< of a request that may be repeated
  std::chrono::milliseconds first_pause{500};  ///< doubles with every try
  std::chrono::seconds max_pause{300};         ///< a server may ask for, with Retry-After
  std::chrono::seconds stall_limit{60};        ///< without a byte
  std::function<void(const std::string&)> note = [](const std::string&) {
  };  ///< why a request is repeated; any thread
};

/// May be used by several threads at once.
class WebClient {
 public:
  /// The token is sent to `endpoint`'s origin (scheme, host, port) and to no other, also after
  /// redirects. May be null.
  WebClient(const Secret* token, std::string endpoint, WebOptions options);
  ~WebClient();

  /// Any status is an answer. What failed before one is repeated, as 429, 500, 502, 503 and 504
  /// are, when the request may be; 429 also when it may not, because it was not done. Error codes:
  /// "connection" (no connection came about), "answer_lost" (it broke later, so that the request
  /// may have been done), "tls", "redirect", "interrupted", "too_large".
  Result<WebResponse> send(const WebRequest& request);

  /// Bytes of bodies sent so far.
  std::uint64_t sent() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// For a message: without what signs a URL (its query, user and password).
std::string printable_url(const std::string& url);

/// Escapes all but letters, digits and -._~ and what is in `kept` (RFC 3986, 2.1).
std::string percent_encoded(std::string_view text, std::string_view kept = "");

}  // namespace cw
