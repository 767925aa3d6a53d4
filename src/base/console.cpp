#include "base/console.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace cw {
namespace {

using namespace std::chrono_literals;

constexpr auto live_interval = 100ms;
constexpr auto plain_interval = 5s;

winsize size_of(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) size.ws_col = 80;
  if (size.ws_row == 0) size.ws_row = 24;
  return size;
}

// At most `width` characters, not bytes; never splits a UTF-8 sequence.
std::string cut(const std::string& text, std::size_t width) {
  std::size_t characters = 0, end = 0;
  for (; end < text.size(); ++end)
    if ((static_cast<unsigned char>(text[end]) & 0xc0) != 0x80 && ++characters > width) break;
  return text.substr(0, end);
}

std::string one_line(std::string_view text) {
  std::string line = for_terminal(text);
  std::ranges::replace(line, '\n', ' ');
  return line;
}

// ECMA-48 SGR.
std::string_view sequence_of(Style style) {
  switch (style) {
    case Style::plain:
      return "";
    case Style::bold:
      return "\033[1m";
    case Style::green:
      return "\033[32m";
    case Style::yellow:
      return "\033[33m";
    case Style::red:
      return "\033[1;31m";
  }
  return "";
}

}  // namespace

namespace {

std::atomic<int> output_error = 0;  // errno of the first failed write to stdout

// A control character, or one that changes the text direction.
struct Control {
  std::size_t bytes = 0;  ///< 0: an ordinary character
  unsigned code = 0;
};

Control control_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  const unsigned first = byte(0), second = byte(1), third = byte(2);
  if (first < 0x20 || first == 0x7f) return {.bytes = 1, .code = first};
  if (first == 0xc2 && second >= 0x80 && second < 0xa0) return {.bytes = 2, .code = second};
  const unsigned last = third & 0x3f;
  const bool is_mark = first == 0xe2 && second == 0x80 &&
                       (third == 0x8e || third == 0x8f || (third >= 0xaa && third <= 0xae));
  const bool is_isolate = first == 0xe2 && second == 0x81 && third >= 0xa6 && third <= 0xa9;
  if (is_mark || is_isolate) return {.bytes = 3, .code = 0x2000 | (second & 0x3f) << 6 | last};
  return {};
}

}  // namespace

void print(std::FILE* out, std::string_view text, Style style) {
  const bool is_styled = style != Style::plain && has_colour(::fileno(out));
  std::string shown = for_terminal(text);
  if (is_styled) shown = std::string(sequence_of(style)) + shown + "\033[0m";
  if (std::fwrite(shown.data(), 1, shown.size(), out) < shown.size() && out == stdout &&
      output_error == 0)
    output_error = errno;
}

Result<void> finish_output() {
  errno = 0;
  const bool is_whole = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (is_whole || errno == EPIPE || output_error == EPIPE) return {};
  return fail("output_failed", "cannot write to stdout: {}",
              std::strerror(errno != 0 ? errno : output_error.load()));
}

void print_json(const Json& json) {
  // The library leaves some control characters unescaped; they occur only inside strings.
  std::string text;
  const std::string plain = dump_indented(json);
  for (std::size_t at = 0; at < plain.size();) {
    const Control control = control_at(plain, at);
    if (control.bytes > 0 && plain[at] != '\n')
      text += fmt::format("\\u{:04x}", control.code);
    else
      text += plain[at];
    at += std::max<std::size_t>(control.bytes, 1);
  }
  print(stdout, text + "\n");
}

bool has_colour(int fd) {
  const char* const no_colour = std::getenv("NO_COLOR");
  const char* const term = std::getenv("TERM");
  return ::isatty(fd) && (no_colour == nullptr || *no_colour == '\0') &&
         (term == nullptr || std::strcmp(term, "dumb") != 0);
}

std::size_t columns(int fd) {
  return size_of(fd).ws_col;
}

ProgressLine::ProgressLine(bool is_quiet)
    : is_quiet_(is_quiet),
      is_live_(::isatty(2) != 0),
      next_(std::chrono::steady_clock::now() +
            (is_live_ ? std::chrono::steady_clock::duration(live_interval) : plain_interval)) {}

ProgressLine::~ProgressLine() {
  clear();
}

void ProgressLine::update(const std::string& text, const std::vector<std::string>& below) {
  if (is_quiet_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return;
  next_ = now + (is_live_ ? std::chrono::steady_clock::duration(live_interval) : plain_interval);
  if (!is_live_) return print(stderr, text + "\n");
  // The last row stays free: if the terminal scrolled, lines would be left behind.
  const winsize size = size_of(2);
  const std::size_t width = size.ws_col - 1u, rows = size.ws_row > 2 ? size.ws_row - 2u : 0u;
  std::string block = to_first_line() + cut(one_line(text), width);
  std::size_t lines = 1;
  for (const std::string& line : below) {
    if (lines > rows) break;
    block += '\n';
    block += cut(one_line(line), width);
    ++lines;
  }
  std::fputs(block.c_str(), stderr);
  std::fflush(stderr);
  shown_ = lines;
}

void ProgressLine::clear() {
  if (shown_ > 0) std::fputs(to_first_line().c_str(), stderr);
  shown_ = 0;
}

// Moves back to the first live line and clears everything below (ECMA-48 CUU and ED).
std::string ProgressLine::to_first_line() const {
  return shown_ > 1 ? fmt::format("\r\033[{}A\033[J", shown_ - 1) : std::string("\r\033[J");
}

std::string with_separators(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, 1, ',');
  return text;
}

std::string size_text(std::uint64_t bytes) {
  const auto of = [bytes](double unit) { return static_cast<double>(bytes) / unit; };
  return bytes < 999'500'000 ? fmt::format("{:.0f} MB", of(1e6))
                             : fmt::format("{:.1f} GB", of(1e9));
}

std::string wrap_lines(std::string_view text, std::size_t width, std::string_view indent) {
  std::string result;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    result +=
        line.starts_with("  ") ? fmt::format("{}{}\n", indent, line) : wrap(line, width, indent);
    begin = end + 1;
  }
  return result;
}

std::string for_terminal(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = [&](std::size_t i) {
      return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
    };

    // Sequence length from the first byte; 0: invalid.
    const unsigned first = byte(0), second = byte(1);
    const std::size_t length = first < 0x80                    ? 1
                               : first >= 0xc2 && first < 0xe0 ? 2
                               : first >= 0xe0 && first < 0xf0 ? 3
                               : first >= 0xf0 && first < 0xf5 ? 4
                                                               : 0;
    bool is_shown = length > 0 && (first == '\n' || control_at(text, at).bytes == 0);
    for (std::size_t i = 1; i < length; ++i) is_shown = is_shown && (byte(i) & 0xc0) == 0x80;
    // Overlong encoding, surrogate, or beyond U+10FFFF.
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second >= 0xa0) ||
        (first == 0xf0 && second < 0x90) || (first == 0xf4 && second >= 0x90))
      is_shown = false;

    if (is_shown)
      result += text.substr(at, length);
    else
      result += '?';
    at += is_shown ? length : 1;
  }
  return result;
}

std::string wrap(std::string_view text, std::size_t width, std::string_view indent) {
  std::string result, line(indent);
  bool is_empty = true;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    begin = end + 1;
    if (!is_empty && line.size() + 1 + word.size() > width) {
      result += line + "\n";
      line = indent;
      is_empty = true;
    }
    if (!is_empty) line += ' ';
    line += word;
    is_empty = false;
  }
  return result + line + "\n";
}

}  // namespace cw
