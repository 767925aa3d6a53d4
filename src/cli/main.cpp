#include "cli/main.h"

#include <cstdio>
#include <optional>

#include <CLI/CLI.hpp>
#include <tbb/global_control.h>

#include "cli/commands.h"

namespace cw::cli {
namespace {

constexpr const char* footer =
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 no workloads.\n"
    "Results go to stdout, progress and errors to stderr.";

// Validators describe themselves in the help, at length; the type names say enough.
CLI::Validator silent(CLI::Validator validator) {
  return validator.description("");
}

template <typename Value>
CLI::Validator one_of(const std::map<std::string, Value>& names) {
  return silent(CLI::CheckedTransformer(names));
}

CLI::App* add_sanitize(CLI::App& app, SanitizeArguments& arguments) {
  CLI::App* command = app.add_subcommand("sanitize", "Turn level-10 dumps into workloads of a dataset");
  SanitizeOptions& options = arguments.options;
  command->add_option("--dumps", arguments.dumps, "Folders of dumps, or folders above them")
      ->required()
      ->type_name("DIR");
  command->add_option("--trace-dir", arguments.trace_dir, "The dataset, with its definitions")
      ->required()
      ->type_name("DIR");
  command->add_option("--definition-name", options.definition_names, "Only these definitions")->type_name("NAME");
  command->add_option("--op-type", options.op_types, "Only definitions of these op types")->type_name("TYPE");
  command->add_option("--select", options.selection, "Which distinct workloads to keep")
      ->transform(one_of<Selection>({{"all", Selection::all}, {"diverse", Selection::diverse}}))
      ->default_str("diverse")
      ->type_name("all|diverse");
  command->add_option("--num-samples", options.num_samples, "diverse: at most so many a definition")
      ->check(silent(CLI::Range(1, 1'000'000)))
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option("--num-pages", options.policy.pool_size,
                   "Page pool: highest page used + 1, the engine's,\nor only pages in use, renumbered")
      ->transform(
          one_of<PoolSize>({{"used", PoolSize::used}, {"pool", PoolSize::pool}, {"compact", PoolSize::compact}}))
      ->default_str("used")
      ->type_name("used|pool|compact");
  command->add_option("--keep-values", options.policy.keep_values, "Store these inputs' values too")
      ->type_name("INPUT");
  command
      ->add_option_function<std::uint64_t>(
          "--random-below", [&options](std::uint64_t bytes) { options.policy.random_below = bytes; },
          "Store inputs of BYTES and more, as older\ncollections do")
      ->check(silent(CLI::NonNegativeNumber))
      ->type_name("BYTES");
  command->add_flag("--dry-run", options.is_dry_run, "Write nothing");
  return command;
}

CLI::App* add_inspect(CLI::App& app, InspectArguments& arguments) {
  CLI::App* command = app.add_subcommand("inspect", "Show what was captured, what fits and what not");
  command->add_option("path", arguments.paths, "Folders of dumps, one call, or a tensor file")
      ->required()
      ->type_name("PATH");
  command->add_option("--trace-dir", arguments.trace_dir, "A dataset with the definitions to try")->type_name("DIR");
  return command;
}

CLI::App* add_validate(CLI::App& app, ValidateArguments& arguments) {
  CLI::App* command = app.add_subcommand("validate", "Check a dataset: definitions, workloads, blobs");
  command->add_option("--trace-dir", arguments.trace_dir, "The dataset")->required()->type_name("DIR");
  return command;
}

void add_common(CLI::App* command, CommonArguments& common) {
  command->add_flag("--json", common.is_json, "The result as JSON on stdout");
  command->add_flag("-q,--quiet", common.is_quiet, "No progress");
  command->add_option("--threads", common.threads, "Threads to use (default: one a core)")
      ->check(silent(CLI::Range(1, 256)))
      ->type_name("N");
  command->add_option("--bindings", common.bindings, "Bindings instead of the built-in ones")->type_name("FILE");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Collects workloads for the flashinfer-trace dataset from real model runs.",
               "collect-workloads");
  app.footer(footer);
  app.set_version_flag("--version", std::string("collect-workloads ") + CW_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(32);

  CommonArguments common;
  SanitizeArguments sanitize_arguments;
  InspectArguments inspect_arguments;
  ValidateArguments validate_arguments;
  CLI::App* const sanitize = add_sanitize(app, sanitize_arguments);
  CLI::App* const inspect = add_inspect(app, inspect_arguments);
  CLI::App* const validate = add_validate(app, validate_arguments);
  for (CLI::App* command : {sanitize, inspect, validate}) add_common(command, common);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? exit_success : exit_usage;
  }
  std::optional<tbb::global_control> limit;
  if (common.threads > 0) limit.emplace(tbb::global_control::max_allowed_parallelism, common.threads);
  try {
    if (sanitize->parsed()) return run_sanitize(sanitize_arguments, common);
    if (inspect->parsed()) return run_inspect(inspect_arguments, common);
    return run_validate(validate_arguments, common);
  } catch (const std::exception& error) {
    // Nothing below throws on purpose: out of memory, or a mistake of ours.
    return report({"internal", fmt::format("unexpected: {}", error.what())},
                  "Please report this with the command line and, if you can, the dumps.");
  }
}

}  // namespace cw::cli
