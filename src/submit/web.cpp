#include "submit/web.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

#include <curl/curl.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/output.h"
#include "base/process.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t max_answer = std::size_t{256} << 20;
// Of an answer, including trailers.
constexpr std::size_t max_headers = 1 << 20;
constexpr int max_redirects = 10;
constexpr const char* user_agent = "collect-workloads/" CW_VERSION;

struct CurlDeleter {
  void operator()(CURL* curl) const { ::curl_easy_cleanup(curl); }
  void operator()(curl_slist* list) const { ::curl_slist_free_all(list); }
  void operator()(CURLU* url) const { ::curl_url_cleanup(url); }
};
using Handle = std::unique_ptr<CURL, CurlDeleter>;
using HeaderList = std::unique_ptr<curl_slist, CurlDeleter>;
using Url = std::unique_ptr<CURLU, CurlDeleter>;

Url parse_url(const std::string& text) {
  Url url(::curl_url());
  if (::curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) return nullptr;
  return url;
}

std::string part(const Url& url, CURLUPart which, unsigned flags = 0) {
  char* text = nullptr;
  if (!url || ::curl_url_get(url.get(), which, &text, flags) != CURLUE_OK) return "";
  std::string result = text;
  ::curl_free(text);
  return result;
}

// scheme://host:port; empty unless it is http or https.
std::string origin(const std::string& text) {
  const Url url = parse_url(text);
  const std::string scheme = part(url, CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") return "";
  std::string host = part(url, CURLUPART_HOST);
  std::transform(host.begin(), host.end(), host.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return scheme + "://" + host + ":" + part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

std::string resolved(const std::string& base, const std::string& reference) {
  const Url url = parse_url(base);
  if (!url || ::curl_url_set(url.get(), CURLUPART_URL, reference.c_str(), 0) != CURLUE_OK)
    return "";
  return part(url, CURLUPART_URL);
}

bool is_redirect(long status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool is_transient(long status) {
  return status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

// One exchange, as libcurl's callbacks see it.
struct Exchange {
  std::string_view body;  // what is sent: this,
  FileDescriptor file;    // or from this file
  std::uint64_t offset = 0, size = 0, position = 0;
  WebResponse response;
  std::optional<OutputFile> output;
  std::uint64_t received = 0, max = 0;
  std::size_t headers = 0;  // bytes
  fs::path save_to;
  std::optional<Error> error;
  std::atomic<std::uint64_t>* sent = nullptr;
};

std::size_t on_read(char* out, std::size_t, std::size_t room, void* user) {
  Exchange& exchange = *static_cast<Exchange*>(user);
  const auto size =
      static_cast<std::size_t>(std::min<std::uint64_t>(room, exchange.size - exchange.position));
  if (exchange.file) {
    if (auto read =
            read_exactly(exchange.file, exchange.offset + exchange.position, size, out, "the file");
        !read) {
      exchange.error =
          Error{"file_changed", "it became shorter while being sent: " + read.error().message};
      return CURL_READFUNC_ABORT;
    }
  } else {
    std::memcpy(out, exchange.body.data() + exchange.position, size);
  }
  exchange.position += size;
  *exchange.sent += size;
  return size;
}

int on_seek(void* user, curl_off_t offset, int) {
  static_cast<Exchange*>(user)->position = static_cast<std::uint64_t>(offset);
  return CURL_SEEKFUNC_OK;
}

std::size_t on_header(char* data, std::size_t, std::size_t size, void* user) {
  Exchange& exchange = *static_cast<Exchange*>(user);
  const std::string_view line(data, size);
  exchange.headers += size;
  if (exchange.headers > max_headers) {
    exchange.error = Error{"too_large", "an answer whose headers do not end"};
    return 0;
  }
  if (line.starts_with("HTTP/")) exchange.response.headers.clear();  // after 100 Continue
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return size;
  std::string name(line.substr(0, colon));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  const std::size_t begin = line.find_first_not_of(" \t", colon + 1),
                    end = line.find_last_not_of(" \t\r\n");
  exchange.response.headers[name] =
      begin == std::string_view::npos || end < begin ? "" : line.substr(begin, end + 1 - begin);
  return size;
}

std::size_t on_body(char* data, std::size_t, std::size_t size, void* user) {
  Exchange& exchange = *static_cast<Exchange*>(user);
  if (exchange.output) {
    exchange.received += size;
    if (exchange.received > exchange.max) {
      exchange.error =
          Error{"too_large", fmt::format("its answer is larger than {} MB", exchange.max >> 20)};
      return 0;
    }
    if (auto written = exchange.output->write({data, size}); !written) {
      exchange.error = written.error();
      return 0;
    }
    return size;
  }

  if (exchange.response.body.size() + size > max_answer) {
    exchange.error =
        Error{"too_large", fmt::format("its answer is larger than {} MB", max_answer >> 20)};
    return 0;
  }

  exchange.response.body.append(data, size);
  return size;
}

int on_progress(void* request, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const WebRequest*>(request)->is_interruptible && stop_signal() != 0 ? 1 : 0;
}

// The variables that curl and Python's clients use too.
const char* certificates() {
  for (const char* name : {"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"})
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0') return value;
  // A libcurl built to run on any system has no default: try the paths of Debian and Ubuntu, RHEL,
  // SUSE, and Alpine.
  if (::curl_version_info(CURLVERSION_NOW)->cainfo != nullptr) return nullptr;
  for (const char* file : {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                           "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"})
    if (::access(file, R_OK) == 0) return file;
  return nullptr;
}

// Sleeps, unless a signal asks to stop.
bool pause(std::chrono::milliseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
    if (stop_signal() != 0) return false;
    std::this_thread::sleep_for(
        std::min<std::chrono::milliseconds>(time, std::chrono::milliseconds(50)));
  }
  return stop_signal() == 0;
}

}  // namespace

struct WebClient::Impl {
  Handle take() {
    const std::lock_guard lock(mutex);
    if (idle.empty()) return Handle(::curl_easy_init());
    Handle handle = std::move(idle.back());
    idle.pop_back();
    return handle;
  }
  void give_back(Handle handle) {
    ::curl_easy_reset(handle.get());  // connections are kept
    const std::lock_guard lock(mutex);
    idle.push_back(std::move(handle));
  }

  Result<WebResponse> once(const WebRequest& request, const std::string& url) {
    Handle handle = take();
    if (!handle) return fail("connection", "libcurl could not be started");
    auto result = perform(handle.get(), request, url);
    give_back(std::move(handle));
    return result;
  }

  Result<WebResponse> perform(CURL* curl, const WebRequest& request, const std::string& url) {
    Exchange exchange;
    exchange.sent = &sent;
    exchange.max = request.max;

    // What is sent, and where the answer goes.
    CW_CHECK(set_body(curl, request, exchange));
    if (!request.save_to.empty()) {
      CW_TRY(exchange.output,
             OutputFile::create(request.save_to.string() + std::string(partial_suffix)));
    }
    const HeaderList headers = headers_of(request, url);
    ::curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
    ::curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    ::curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
    ::curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    ::curl_easy_setopt(curl, CURLOPT_HEADERDATA, &exchange);
    ::curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    ::curl_easy_setopt(curl, CURLOPT_WRITEDATA, &exchange);
    ::curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    ::curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    ::curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &request);
    set_connection(curl, request);

    char reason[CURL_ERROR_SIZE] = "";
    ::curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    const CURLcode code = ::curl_easy_perform(curl);
    ::curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &exchange.response.status);
    return finish(code, reason, request, url, exchange);
  }

  Result<void> set_body(CURL* curl, const WebRequest& request, Exchange& exchange) const {
    const bool has_body = request.file || !request.body.empty() || request.method == "POST" ||
                          request.method == "PUT";
    if (!has_body) return {};
    exchange.body = request.body;
    exchange.size = request.body.size();
    if (request.file) {
      CW_TRY(exchange.file, open_for_reading(AT_FDCWD, request.file->path.string()));
      exchange.offset = request.file->offset;
      exchange.size = request.file->size;
    }

    ::curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    ::curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(exchange.size));
    ::curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
    ::curl_easy_setopt(curl, CURLOPT_READDATA, &exchange);
    ::curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
    ::curl_easy_setopt(curl, CURLOPT_SEEKDATA, &exchange);
    return {};
  }

  HeaderList headers_of(const WebRequest& request, const std::string& url) const {
    HeaderList headers;
    const auto add = [&headers](const std::string& line) {
      curl_slist* list = ::curl_slist_append(headers.get(), line.c_str());
      if (list != nullptr) {
        (void)headers.release();
        headers.reset(list);
      }
    };
    for (const std::string& header : request.headers) add(header);
    add("Expect:");

    // The token goes to its own server only.
    if (token != nullptr && !token_origin.empty() && origin(url) == token_origin) {
      Secret line(std::string("Authorization: Bearer ").append(token->reveal()));
      add(std::string(line.reveal()));
    }
    return headers;
  }

  void set_connection(CURL* curl, const WebRequest& request) const {
    ::curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    ::curl_easy_setopt(curl, CURLOPT_USERAGENT, user_agent);
    ::curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");
    ::curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    ::curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 30L);
    ::curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    ::curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME,
                       static_cast<long>(options.stall_limit.count()));
    if (const char* file = certificates()) ::curl_easy_setopt(curl, CURLOPT_CAINFO, file);

    // libcurl resends by itself if a kept-alive connection turns out to be closed.
    if (!request.is_repeatable) ::curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
  }

  Result<WebResponse> finish(CURLcode code, const char* reason, const WebRequest& request,
                             const std::string& url, Exchange& exchange) {
    const fs::path partial = request.save_to.string() + std::string(partial_suffix);
    std::error_code ignored;
    if (code != CURLE_OK || exchange.response.status != 200) {
      if (!request.save_to.empty()) fs::remove(partial, ignored);
    }

    if (exchange.error)
      return fail(exchange.error->code, "{}: {}", printable_url(url), exchange.error->message);

    const std::string text = *reason != '\0' ? reason : ::curl_easy_strerror(code);
    switch (code) {
      case CURLE_OK:
        break;
      case CURLE_ABORTED_BY_CALLBACK:
        return fail("interrupted", "{}: interrupted", printable_url(url));
      case CURLE_UNSUPPORTED_PROTOCOL:
      case CURLE_URL_MALFORMAT:
        return fail("url_invalid", "'{}' is not an http or https URL", printable_url(url));
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_SSL_CONNECT_ERROR:
      case CURLE_SSL_CACERT_BADFILE:
      case CURLE_SSL_ISSUER_ERROR:
        return fail("tls", "{}: {}", printable_url(url), text);
      case CURLE_COULDNT_RESOLVE_HOST:
      case CURLE_COULDNT_RESOLVE_PROXY:
      case CURLE_COULDNT_CONNECT:
        return fail("connection", "{}: {}", printable_url(url), text);
      default:
        return fail("answer_lost", "{}: {}", printable_url(url), text);
    }

    if (exchange.output && exchange.response.status == 200) {
      CW_CHECK(exchange.output->flush());
      fs::rename(partial, request.save_to, ignored);
      if (ignored)
        return fail("unwritable", "cannot write {}: {}", request.save_to.string(),
                    ignored.message());
    }
    return std::move(exchange.response);
  }

  // The answer after redirects.
  Result<WebResponse> follow(WebRequest request) {
    std::string url = request.url;
    for (int i = 0; i <= max_redirects; ++i) {
      CW_TRY(auto response, once(request, url));
      if (!is_redirect(response.status)) return response;

      const bool keeps_method =
          response.status == 307 || response.status == 308 || request.method == "GET";
      const std::string next = resolved(url, response.header("location"));
      if (!keeps_method || next.empty() || origin(next).empty())
        return fail("redirect", "{} answered {} with a redirect that cannot be followed ({})",
                    printable_url(url), response.status,
                    next.empty() ? "no target" : printable_url(next));

      if (origin(url).starts_with("https:") && !origin(next).starts_with("https:"))
        return fail("redirect", "{} redirects from https to {}; that is not followed",
                    printable_url(url), printable_url(next));
      // What a server gave for its own host must not go to another.
      if (origin(next) != origin(url))
        std::erase_if(request.headers, [](const std::string& line) {
          return !line.starts_with("Content-Type:") && !line.starts_with("Accept:");
        });
      url = next;
    }
    return fail("redirect", "{}: more than {} redirects", printable_url(request.url),
                max_redirects);
  }

  const Secret* token;
  const std::string token_origin;
  const WebOptions options;
  std::mutex mutex;
  std::vector<Handle> idle;
  std::atomic<std::uint64_t> sent = 0;
};

std::string WebResponse::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

WebClient::WebClient(const Secret* token, std::string endpoint, WebOptions options)
    : impl_(new Impl{token, origin(endpoint), std::move(options), {}, {}}) {
  static const CURLcode started = ::curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)started;
}

WebClient::~WebClient() = default;

Result<WebResponse> WebClient::send(const WebRequest& request) {
  const WebOptions& options = impl_->options;
  std::chrono::milliseconds wait = options.first_pause;
  for (std::size_t attempt = 1;; ++attempt) {
    auto response = impl_->follow(request);

    // Is it worth another try, and may it be repeated?
    const bool was_not_done =
        response ? response->status == 429 : response.error().code == "connection";
    const bool may_repeat = request.is_repeatable || was_not_done;
    const bool is_worth_it =
        response ? is_transient(response->status)
                 : response.error().code == "connection" || response.error().code == "answer_lost";
    if (!may_repeat || !is_worth_it || attempt >= options.tries) return response;

    // The server may say how long to wait.
    std::chrono::milliseconds asked = wait;
    if (response)
      if (const std::string after = response->header("retry-after");
          !after.empty() && after.size() < 9)
        asked = std::chrono::seconds(std::max(std::strtol(after.c_str(), nullptr, 10), 0L));
    if (asked > options.max_pause) return response;

    options.note(response
                     ? fmt::format("{}: status {}; again in {:.1f} s", printable_url(request.url),
                                   response->status, static_cast<double>(asked.count()) / 1000)
                     : fmt::format("{}; again in {:.1f} s", response.error().message,
                                   static_cast<double>(asked.count()) / 1000));
    if (!pause(asked)) return fail("interrupted", "{}: interrupted", printable_url(request.url));
    wait *= 2;
  }
}

std::uint64_t WebClient::sent() const {
  return impl_->sent;
}

std::string printable_url(const std::string& text) {
  const Url url = parse_url(text);
  if (!url) return text.substr(0, text.find_first_of("?@"));
  for (const CURLUPart secret :
       {CURLUPART_QUERY, CURLUPART_FRAGMENT, CURLUPART_USER, CURLUPART_PASSWORD})
    ::curl_url_set(url.get(), secret, nullptr, 0);
  return part(url, CURLUPART_URL);
}

std::string percent_encoded(std::string_view text, std::string_view kept) {
  std::string result;
  for (const char c : text) {
    const bool is_plain = std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                          std::string_view("-._~").find(c) != std::string_view::npos;
    if (is_plain || kept.find(c) != std::string_view::npos)
      result += c;
    else
      result += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return result;
}

}  // namespace cw
