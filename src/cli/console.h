// What a collection shows on the terminal.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include "base/console.h"
#include "cli/command.h"

namespace cw::cli {

/// Boxed titles, one line per step that is done. On stderr where stdout is for JSON.
class Console {
 public:
  explicit Console(const CommonArguments& common);

  void title(const std::string& text);
  void done(const std::string& text);
  void note(const std::string& text);
  void command(const std::string& text) { show("  $ " + text + "\n"); }
  void text(const std::string& text) { show(text); }

 private:
  void show(std::string_view text, Style style = Style::plain);

  bool is_quiet_;
  std::FILE* out_;
};

/// Asks on the terminal; anything but a yes is a no.
bool asks_for_yes(const std::string& question);

}  // namespace cw::cli
