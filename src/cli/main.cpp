#include "cli/main.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include <tbb/global_control.h>

#include "base/console.h"
#include "base/file.h"
#include "base/redact.h"
#include "cli/command.h"
#include "cli/errors.h"

// One line per command, in the order of --help.
#define CW_COMMANDS(command)                                                           \
  command(collect) command(record) command(sanitize) command(watch) command(inspect)   \
      command(validate) command(merge) command(report) command(verify) command(submit) \
          command(doctor) command(env) command(serve) command(drive) command(clean)    \
              command(completion) command(man) command(skill)

namespace cw::cli {

#define CW_DECLARE(name) std::unique_ptr<Command> make_##name();
CW_COMMANDS(CW_DECLARE)

namespace {

using Make = std::unique_ptr<Command>();
#define CW_ADDRESS(name) make_##name,
constexpr Make* commands[] = {CW_COMMANDS(CW_ADDRESS)};

const ParserSettings settings{
    .name = "collect-workloads",
    .version = std::string("collect-workloads ") + CW_VERSION,
    .description = "Collects workloads for the flashinfer-trace dataset from real model runs.",
    .footer =
        "Exit status: 0 success, 1 failure, 2 usage error, 3 no workloads.\n"
        "Results go to stdout, progress and errors to stderr.",
};

// "collect has no option --trace-dirs; did you mean --trace-dir?", or nothing.
std::string describe_unknown_option(const ProgramView& program,
                                    const std::vector<std::string>& words) {
  const auto command = std::ranges::find_if(program.commands, [&words](const CommandView& view) {
    return !words.empty() && view.name == words[0];
  });
  if (command == program.commands.end()) return {};
  std::vector<std::string> names;
  for (const OptionView& option : command->options)
    std::ranges::copy_if(option.names, std::back_inserter(names),
                         [](const std::string& name) { return name.starts_with("--"); });

  for (const std::string& word : std::span(words).subspan(1)) {
    const std::string name = word.substr(0, word.find('='));
    const bool is_option =
        name.starts_with("--") && name.size() > 2 && name.find(' ') == std::string::npos;
    if (!is_option || std::ranges::find(names, name) != names.end()) continue;

    // The one that begins most like it, the shortest of several.
    const auto common_prefix = [&name](const std::string& other) {
      return std::ranges::mismatch(name, other).in1 - name.begin();
    };
    const auto nearest = std::ranges::max_element(names, [&](const auto& left, const auto& right) {
      return std::pair(common_prefix(left), right.size()) <
             std::pair(common_prefix(right), left.size());
    });
    constexpr std::ptrdiff_t min_alike = 5;  // "--" and three letters
    const bool is_alike = nearest != names.end() && common_prefix(*nearest) >= min_alike;
    return fmt::format("{} has no option {}{}", words[0], name,
                       is_alike ? fmt::format("; did you mean {}?", *nearest) : "");
  }
  return {};
}

void add_common_options(Command& command, Options& options, CommonArguments& common) {
  if (!command.has_common_options()) return;
  if (command.has_json()) options.flag("--json", common.is_json, "Print the result as JSON");
  options.flag("-q,--quiet", common.is_quiet, "Show no progress");
  options.value("--threads", common.threads, "Threads to use (default: one per core)")
      .range(1, 256)
      .meta("N");
  options.value("--bindings", common.bindings, "Bindings to use instead of the built-in ones")
      .meta("FILE");
}

// What a parser has to say to the user, and the exit status that goes with it.
int tell(const Parsed& parsed, const ProgramView& program, const std::vector<std::string>& words,
         const Command* command) {
  // A mistyped option says more than the one that is missing instead.
  if (const std::string unknown = parsed.is_wrong ? describe_unknown_option(program, words) : "";
      !unknown.empty()) {
    print_error({"usage", unknown},
                fmt::format("collect-workloads {} --help lists its options.", words[0]));
    return exit_usage;
  }
  print(stdout, parsed.out);
  print(stderr, parsed.err);
  if (!parsed.is_wrong) return exit_success;
  if (command != nullptr && !command->usage_advice().empty())
    print(stderr, command->usage_advice() + "\n");
  return exit_usage;
}

int run_command(std::vector<std::string> words) {
  // All commands, and what each says of its options.
  Parser parser(settings);
  CommonArguments common;
  std::vector<std::unique_ptr<Command>> all;
  for (Make* make : commands) {
    all.push_back(make());
    parser.add(*all.back(), [&common](Command& command, Options& options) {
      add_common_options(command, options, common);
    });
  }
  const ProgramView program = parser.view();
  common.program = &program;

  // Which one it is. Without a name it is collect.
  if (!words.empty() && words[0].starts_with("--") && words[0] != "--help" &&
      words[0] != "--version")
    words.insert(words.begin(), "collect");
  const auto named = std::ranges::find_if(
      all, [&words](const auto& command) { return !words.empty() && command->name() == words[0]; });
  if (!words.empty() && !words[0].starts_with("-") && named == all.end()) {
    print_error({"usage", "there is no command " + words[0]},
                "collect-workloads --help lists them.");
    return exit_usage;
  }

  // Its words.
  std::vector<std::string> expanded = words;
  if (named != all.end()) {
    auto result = (*named)->expand(words);
    if (!result) return print_error(result.error());
    expanded = std::move(*result);
  }
  const Parsed parsed = parser.parse(expanded);
  if (parsed.command == nullptr)
    return tell(parsed, program, words, named != all.end() ? named->get() : nullptr);
  if (std::getenv("COLLECT_WORKLOADS_TEST_PARSE_ONLY") != nullptr) return exit_success;

  std::optional<tbb::global_control> limit;
  if (common.threads > 0)
    limit.emplace(tbb::global_control::max_allowed_parallelism, common.threads);
  try {
    return parsed.command->run(common);
  } catch (const std::exception& error) {
    // Nothing below throws on purpose: out of memory, or a mistake of ours.
    return print_error({"internal", fmt::format("unexpected error: {}", error.what())},
                       "Please report this with the command line and, if you can, the dumps.");
  }
}

}  // namespace

int main(int argc, char** argv) {
  keep_standard_streams();
  const int status = run_command({argv + 1, argv + argc});
  const auto written = finish_output();
  return written ? status : print_error(written.error(), "All else the command does is done.");
}

}  // namespace cw::cli
