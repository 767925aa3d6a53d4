// What a user at a terminal sees: live progress on stderr, colour only where it can be shown.
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
/// Columns of the terminal on `fd`; 80 where it is none.
std::size_t columns(int fd);

/// One line that is rewritten on a terminal, and a plain line every few seconds elsewhere.
class ProgressLine {
 public:
  explicit ProgressLine(bool is_quiet);
  ~ProgressLine();
  /// Cheap to call often: shows at most ten texts a second. `below` stands under the line, on a
  /// terminal only, as far as its rows and columns go.
  void update(const std::string& text, const std::vector<std::string>& below = {});
  /// Removes what is live, so that other output can follow.
  void clear();

 private:
  std::string to_first_line() const;

  bool is_quiet_, is_live_;
  std::size_t shown_ = 0;  ///< lines on the terminal now
  std::chrono::steady_clock::time_point next_;
};

enum class Style { plain, bold, green, yellow, red };

/// The only way from here to a user's stdout or stderr: no control character of anybody's text
/// passes (for_terminal()); what a style needs is added here, where it can be shown.
void print(std::FILE* out, std::string_view text, Style style = Style::plain);
/// Whether all that was printed to stdout has arrived; else the error that the system gave. A
/// reader that has left is no error. To be asked at the end.
Result<void> finish_output();
/// A result on stdout, and a newline. Control characters are escaped, as JSON can: nothing of it is
/// lost.
void print_json(const Json& json);

/// Text of others as a terminal may have it: control characters but newlines, and what is no UTF-8,
/// are '?'.
std::string for_terminal(std::string_view text);

/// "12 MB", "1.5 GB"
std::string size_text(std::uint64_t bytes);

/// 12345678 -> "12,345,678"
std::string with_separators(std::uint64_t number);

/// Breaks text at spaces so that no line passes `width`; every line begins with `indent`.
std::string wrap(std::string_view text, std::size_t width, std::string_view indent);
/// Each line by itself; those that begin with two spaces are commands, to be copied, and stay
/// whole.
std::string wrap_lines(std::string_view text, std::size_t width, std::string_view indent);

}  // namespace cw
