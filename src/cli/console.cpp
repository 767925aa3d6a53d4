#include "cli/console.h"

#include "base/redact.h"

namespace cw::cli {
namespace {

// A text of which the first two columns are taken by a mark.
std::string behind_mark(const std::string& text) {
  return wrap_lines(redact(std::string_view(text)), 78, "  ").substr(2);
}

}  // namespace

Console::Console(const CommonArguments& common)
    : is_quiet_(common.is_quiet), out_(common.is_json ? stderr : stdout) {}

void Console::title(const std::string& text) {
  const std::string line(76, '=');
  show("\n" + line + "\n  ");
  show(text, Style::bold);
  show("\n" + line + "\n");
}

void Console::done(const std::string& text) {
  show("✓ ", Style::green);
  show(behind_mark(text));
}

void Console::note(const std::string& text) {
  show("! ", Style::yellow);
  show(behind_mark(text));
}

void Console::show(std::string_view text, Style style) {
  if (is_quiet_) return;
  print(out_, text, style);
  std::fflush(out_);
}

bool asks_for_yes(const std::string& question) {
  print(stderr, question + " [y/N] ");
  std::fflush(stderr);
  char answer[16] = "";
  if (std::fgets(answer, sizeof answer, stdin) == nullptr) return false;
  return answer[0] == 'y' || answer[0] == 'Y';
}

}  // namespace cw::cli
