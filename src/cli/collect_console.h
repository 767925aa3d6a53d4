// What a collection shows on the terminal.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "base/console.h"
#include "cli/commands.h"

namespace cw::cli {

/// Boxed titles, one line a thing done. On stderr where stdout is for JSON.
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

/// Two rows a definition, under the progress line.
std::vector<std::string> live_table(const std::vector<Progress>& definitions);

/// How far the var axes of each definition were spread.
std::string coverage(const CollectRunOutcome& outcome);

}  // namespace cw::cli
