#include "submit/token.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <optional>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/file.h"
#include "base/process.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr const char* token_variables[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"};
constexpr std::uint64_t max_token = 64 << 10;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void wipe(std::string& text) {
  ::explicit_bzero(text.data(), text.size());
}

// Surrounding newlines and spaces are not part of a token; anything but printable ASCII would break
// a header.
bool is_token(std::string_view text) {
  return !text.empty() && text.find_first_not_of(
                              "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`"
                              "abcdefghijklmnopqrstuvwxyz{|}~") == std::string_view::npos;
}

Secret trimmed(std::string& text) {
  constexpr const char* blank = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(blank);
  std::string result = begin == std::string::npos
                           ? ""
                           : text.substr(begin, text.find_last_not_of(blank) + 1 - begin);
  wipe(text);
  return Secret(std::move(result));
}

fs::path token_file() {
  if (const std::string path = environment("HF_TOKEN_PATH"); !path.empty()) return path;
  if (const std::string home = environment("HF_HOME"); !home.empty())
    return fs::path(home) / "token";
  if (const std::string cache = environment("XDG_CACHE_HOME"); !cache.empty())
    return fs::path(cache) / "huggingface/token";
  const std::string home = environment("HOME");
  return home.empty() ? fs::path() : fs::path(home) / ".cache/huggingface/token";
}

}  // namespace

Secret::~Secret() {
  // Everything the string ever had room for.
  text_.resize(text_.capacity());
  wipe(text_);
}

void hide_token() {
  forbid_core_dumps();
  for (const char* name : token_variables) {
    if (char* value = std::getenv(name); value != nullptr)
      ::explicit_bzero(value, std::strlen(value));
    ::unsetenv(name);
  }
}

void forbid_core_dumps() {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

namespace {

constexpr std::chrono::hours renewed_within{24};  // as in huggingface_hub (utils/_auth.py)
constexpr std::chrono::seconds renewal_limit{60};

// When the browser login that issued this token expires; nothing for a token created by hand.
std::optional<std::int64_t> end_of_login(const fs::path& stored, std::string_view token) {
  auto content = read_file(AT_FDCWD, stored.string(), max_token);
  if (!content) return std::nullopt;
  std::optional<std::int64_t> end;
  bool is_ours = false, is_renewable = false;

  // An INI file with one section per login.
  for (std::string_view rest = *content; !rest.empty();) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with('[')) {
      if (is_ours && is_renewable && end) break;
      is_ours = is_renewable = false;
      end.reset();
      continue;
    }
    const std::size_t sign = line.find('=');
    if (sign == std::string_view::npos) continue;
    const std::string_view name = line.substr(0, line.find_last_not_of(" \t", sign - 1) + 1);
    const std::size_t begin = line.find_first_not_of(" \t", sign + 1);
    const std::string_view value =
        begin == std::string_view::npos ? std::string_view() : line.substr(begin);
    std::int64_t number = 0;
    if (name == "hf_token") is_ours = value == token;
    if (name == "refresh_token") is_renewable = !value.empty();
    if (name == "expires_at" &&
        std::from_chars(value.data(), value.data() + value.size(), number).ec == std::errc())
      end = number;
  }
  wipe(*content);
  return is_ours && is_renewable ? end : std::nullopt;
}

}  // namespace

Result<Token> find_token(const std::function<void(const std::string&)>& note) {
  const auto checked = [](Token token) -> Result<Token> {
    if (!is_token(token.secret.reveal()))
      return fail("no_token", "no access token: {} contains bytes that no token has", token.origin);
    return token;
  };

  // The environment first. The variable is cleared, so that child processes do not inherit it.
  for (const char* name : token_variables) {
    char* value = std::getenv(name);
    if (value == nullptr) continue;
    std::string copy = value;
    ::explicit_bzero(value, std::strlen(value));
    ::unsetenv(name);
    if (Secret secret = trimmed(copy); !secret.is_empty())
      return checked({std::move(secret), name});
  }

  // Then the file that `hf auth login` writes.
  const fs::path path = token_file();
  if (path.empty()) return fail("no_token", "no access token: neither HF_TOKEN nor HOME is set");
  auto content = read_file(AT_FDCWD, path.string(), max_token);
  if (!content && content.error().code != "not_found") return tl::unexpected(content.error());
  Secret secret = content ? trimmed(*content) : Secret();
  if (secret.is_empty())
    return fail("no_token", "no access token: HF_TOKEN is not set and {} does not exist",
                path.string());

  CW_TRY(Token token, checked({std::move(secret), path.string()}));
  const auto end = end_of_login(path.parent_path() / "stored_tokens", token.secret.reveal());
  const auto left = end ? std::chrono::seconds(std::max<std::int64_t>(*end, 0) - std::time(nullptr))
                        : std::chrono::seconds::max();
  if (left >= renewed_within) return token;

  // A browser login expires after some hours; the Hub's own client can renew it.
  auto renewed = run({{"hf", "auth", "token"}}, renewal_limit);
  if (renewed) {
    // The first line; a hint may follow.
    renewed->resize(std::min(renewed->find('\n'), renewed->size()));
    if (Secret fresh = trimmed(*renewed); !fresh.is_empty())
      return checked({std::move(fresh), "hf auth"});
  }

  const std::string why = renewed ? "it printed none" : renewed.error().message;
  if (left.count() <= 0)
    return fail(
        "login_ended",
        "the login in the browser ended {} hours ago, and `hf auth token` does not renew it: {}",
        -left.count() / 3600, why);
  note(fmt::format(
      "the login in the browser ends in {} hours, and `hf auth token` does not renew it: {}",
      left.count() / 3600, why));
  return token;
}

}  // namespace cw
