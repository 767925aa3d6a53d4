#include "submit/token.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/file.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr const char* token_variables[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"};
constexpr std::uint64_t largest_token = 64 << 10;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void wipe(std::string& text) {
  ::explicit_bzero(text.data(), text.size());
}

// Newlines and spaces around it are no part of a token; anything but printable ASCII would break a header.
bool is_token(std::string_view text) {
  return !text.empty() && text.find_first_not_of(
                              "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`"
                              "abcdefghijklmnopqrstuvwxyz{|}~") == std::string_view::npos;
}

Secret trimmed(std::string& text) {
  constexpr const char* blank = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(blank);
  std::string result = begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(blank) + 1 - begin);
  wipe(text);
  return Secret(std::move(result));
}

fs::path token_file() {
  if (const std::string path = environment("HF_TOKEN_PATH"); !path.empty()) return path;
  if (const std::string home = environment("HF_HOME"); !home.empty()) return fs::path(home) / "token";
  if (const std::string cache = environment("XDG_CACHE_HOME"); !cache.empty())
    return fs::path(cache) / "huggingface/token";
  const std::string home = environment("HOME");
  return home.empty() ? fs::path() : fs::path(home) / ".cache/huggingface/token";
}

}  // namespace

Secret::~Secret() {
  // All that the string ever had room for.
  text_.resize(text_.capacity());
  wipe(text_);
}

void hide_token() {
  forbid_core_dumps();
  for (const char* name : token_variables) {
    if (char* value = std::getenv(name); value != nullptr) ::explicit_bzero(value, std::strlen(value));
    ::unsetenv(name);
  }
}

void forbid_core_dumps() {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

Result<Token> find_token() {
  const auto checked = [](Token token) -> Result<Token> {
    if (!is_token(token.secret.reveal()))
      return fail("no_token", "{}: what is there is no access token: it has bytes that no token has", token.origin);
    return token;
  };
  for (const char* name : token_variables) {
    char* value = std::getenv(name);
    if (value == nullptr) continue;
    std::string copy = value;
    ::explicit_bzero(value, std::strlen(value));
    ::unsetenv(name);
    if (Secret secret = trimmed(copy); !secret.is_empty()) return checked({std::move(secret), name});
  }
  const fs::path path = token_file();
  if (path.empty()) return fail("no_token", "no access token: neither HF_TOKEN nor HOME is set");
  auto content = read_file(AT_FDCWD, path.string(), largest_token);
  if (!content && content.error().code != "not_found") return tl::unexpected(content.error());
  Secret secret = content ? trimmed(*content) : Secret();
  if (secret.is_empty())
    return fail("no_token", "no access token: HF_TOKEN is not set and {} is not there", path.string());
  return checked({std::move(secret), path.string()});
}

}  // namespace cw
