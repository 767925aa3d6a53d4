// Terminal output: live progress on stderr, colour only where it is supported.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace cw {

/// Whether text on stdout (1) or stderr (2) may have colour: a terminal, NO_COLOR unset, TERM not
/// dumb.
bool has_colour(int fd);
/// Columns of the terminal on `fd`; 80 if it is not a terminal.
std::size_t columns(int fd);

/// One line that is rewritten on a terminal, and a plain line every few seconds elsewhere.
class ProgressLine {
 public:
  explicit ProgressLine(bool is_quiet);
  ~ProgressLine();
  /// Cheap to call often: refreshes at most ten times per second. `below` is shown under the line,
  /// on a terminal only, clipped to its rows and columns.
  void update(const std::string& text, const std::vector<std::string>& below = {});
  /// Removes the live lines, so that other output can follow.
  void clear();

 private:
  std::string to_first_line() const;

  bool is_quiet_, is_live_;
  std::size_t shown_ = 0;  ///< lines on the terminal now
  std::chrono::steady_clock::time_point next_;
};

enum class Style { plain, bold, green, yellow, red };

/// All output to the user's stdout and stderr goes through here: control characters in the text are
/// filtered out (for_terminal()), and styles are added where supported.
void print(std::FILE* out, std::string_view text, Style style = Style::plain);
/// Whether everything printed to stdout was written; otherwise the system's error. A reader that
/// has gone away is not an error. To be called at the end.
Result<void> finish_output();
/// Prints a result and a newline to stdout. Control characters are JSON-escaped, so nothing is
/// lost.
void print_json(const Json& json);

/// Untrusted text made safe for a terminal: control characters other than newlines, and invalid
/// UTF-8, become '?'.
std::string for_terminal(std::string_view text);

/// "12 MB", "1.5 GB"
std::string size_text(std::uint64_t bytes);

/// 12345678 -> "12,345,678"
std::string with_separators(std::uint64_t number);

/// Breaks text at spaces so that no line exceeds `width`; every line begins with `indent`.
std::string wrap(std::string_view text, std::size_t width, std::string_view indent);
/// Wraps each line separately; those that begin with two spaces are commands to be copied, and are
/// left alone.
std::string wrap_lines(std::string_view text, std::size_t width, std::string_view indent);

}  // namespace cw
