#include "cli/collect_console.h"

#include <fmt/ranges.h>

#include "base/console.h"

namespace cw::cli {
namespace {

std::string marked(const std::string& mark, const std::string& text) {
  return mark + wrap_lines(text, 78, "  ").substr(2);
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
                                 : fmt::format("{} {}{}{}", axis.name, with_separators(least), to, with_separators(most)));
  }
  return fmt::format("{}", fmt::join(axes, ", "));
}

}  // namespace

Console::Console(const CommonArguments& common)
    : is_quiet_(common.is_quiet), out_(common.is_json ? stderr : stdout), has_colour_(has_colour(common.is_json ? 2 : 1)) {}

void Console::title(const std::string& text) {
  const std::string line(76, '=');
  print(fmt::format("\n{}\n  {}{}{}\n{}\n", line, has_colour_ ? "\033[1m" : "", text, has_colour_ ? "\033[0m" : "", line));
}

void Console::done(const std::string& text) {
  print(marked(has_colour_ ? "\033[32m✓\033[0m " : "✓ ", text));
}

void Console::note(const std::string& text) {
  print(marked(has_colour_ ? "\033[33m!\033[0m " : "! ", text));
}

void Console::print(const std::string& text) {
  if (is_quiet_) return;
  std::fputs(text.c_str(), out_);
  std::fflush(out_);
}

std::vector<std::string> live_table(const std::vector<Progress>& definitions) {
  std::vector<std::string> rows{fmt::format("{:>9}{:>9}  {}", "found", "calls", "definition")};
  for (const Progress& progress : definitions) {
    rows.push_back(fmt::format("{:>9}{:>9}  {}", with_separators(progress.distinct), with_separators(progress.calls),
                               progress.definition->name));
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
