#include "cli/collect_console.h"

#include <fmt/ranges.h>

#include "base/console.h"
#include "base/redact.h"

namespace cw::cli {
namespace {

// A text of which the first two columns are taken by a mark.
std::string behind_mark(const std::string& text) {
  return wrap_lines(redact(std::string_view(text)), 78, "  ").substr(2);
}

// "batch_size 1 to 256, num_kv_indices 2 to 10,998"
std::string describe_ranges(const Definition& definition,
                            const std::vector<std::pair<std::int64_t, std::int64_t>>& ranges,
                            std::string_view to = " to ") {
  std::vector<std::string> axes;
  for (const Axis& axis : definition.axes) {
    if (axis.constant || axes.size() == ranges.size()) continue;
    const auto& [least, most] = ranges[axes.size()];
    axes.push_back(least == most ? fmt::format("{} {}", axis.name, with_separators(least))
                                 : fmt::format("{} {}{}{}", axis.name, with_separators(least), to,
                                               with_separators(most)));
  }
  return fmt::format("{}", fmt::join(axes, ", "));
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

std::vector<std::string> live_table(const std::vector<Progress>& definitions) {
  std::vector<std::string> rows{fmt::format("{:>9}{:>9}  {}", "found", "calls", "definition")};
  for (const Progress& progress : definitions) {
    rows.push_back(fmt::format("{:>9}{:>9}  {}", with_separators(progress.distinct),
                               with_separators(progress.calls), progress.definition->name));
    if (!progress.ranges.empty())
      rows.push_back("    " + describe_ranges(*progress.definition, progress.ranges, "-"));
  }
  return rows;
}

std::string coverage(const CollectRunOutcome& outcome) {
  std::string text;
  for (const DefinitionOutcome& definition : outcome.sanitized.definitions)
    if (!definition.ranges.empty())
      text += definition.definition->name + "\n" +
              wrap(describe_ranges(*definition.definition, definition.ranges), 80, "    ");
  return text.empty() ? text : "What was seen of the var axes\n" + text;
}

}  // namespace cw::cli
