// Errors as values.
//
// Everything below the command line returns Result<T>. An Error has a code, which identifies the
// kind of failure and which defects are counted by, and a message for the user that says what
// happened and where. CW_TRY and CW_CHECK propagate an error to the caller.
#pragma once

#include <string>
#include <utility>

#include <fmt/format.h>
#include <tl/expected.hpp>

namespace cw {

struct Error {
  std::string code;     ///< snake_case, stable: counters and tests refer to it
  std::string message;  ///< one sentence, no trailing newline
};

template <typename T>
using Result = tl::expected<T, Error>;

template <typename... Args>
[[nodiscard]] tl::unexpected<Error> fail(std::string code, fmt::format_string<Args...> format,
                                         Args&&... args) {
  return tl::unexpected<Error>(
      Error{std::move(code), fmt::format(format, std::forward<Args>(args)...)});
}

}  // namespace cw

#define CW_CONCAT_(a, b) a##b
#define CW_CONCAT(a, b) CW_CONCAT_(a, b)

/// CW_TRY(auto x, f()): x = *f(), or return f's error.
#define CW_TRY(declaration, expression) \
  CW_TRY_(CW_CONCAT(cw_result_, __COUNTER__), declaration, expression)
#define CW_TRY_(name, declaration, expression)                              \
  auto name = (expression);                                                 \
  if (!name) return ::tl::unexpected<::cw::Error>(std::move(name).error()); \
  declaration = std::move(*name)

/// CW_CHECK(f()): return f's error, if any; for Result<void> and for unused values.
#define CW_CHECK(expression)                                               \
  do {                                                                     \
    if (auto cw_checked = (expression); !cw_checked)                       \
      return ::tl::unexpected<::cw::Error>(std::move(cw_checked).error()); \
  } while (false)
