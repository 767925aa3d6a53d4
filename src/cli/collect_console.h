// What a collection shows on the terminal.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "cli/commands.h"

namespace cw::cli {

/// Boxed titles, one line a thing done. On stderr where stdout is for JSON.
class Console {
 public:
  explicit Console(const CommonArguments& common);

  void title(const std::string& text);
  void done(const std::string& text);
  void note(const std::string& text);
  void command(const std::string& text) { print("  $ " + text + "\n"); }
  void text(const std::string& text) { print(text); }

 private:
  void print(const std::string& text);

  bool is_quiet_;
  std::FILE* out_;
  bool has_colour_;
};

/// Two rows a definition, under the progress line.
std::vector<std::string> live_table(const std::vector<Progress>& definitions);

/// How far the var axes of each definition were spread.
std::string coverage(const CollectRunOutcome& outcome);

}  // namespace cw::cli
