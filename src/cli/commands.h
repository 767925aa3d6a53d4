// The subcommands, apart from how their options are parsed. Each returns the process's exit status.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "pipeline/sanitize.h"

namespace cw::cli {

enum ExitStatus {
  exit_success = 0,
  exit_failure = 1,
  exit_usage = 2,
  exit_no_workloads = 3,
};

struct CommonArguments {
  bool is_json = false;            ///< the result as JSON on stdout
  bool is_quiet = false;           ///< no progress
  std::size_t threads = 0;         ///< 0: as many as there are cores
  std::filesystem::path bindings;  ///< empty: the built-in ones
};

struct SanitizeArguments {
  std::vector<std::filesystem::path> dumps;
  std::filesystem::path trace_dir;
  SanitizeOptions options;
};

struct InspectArguments {
  std::vector<std::filesystem::path> paths;
  std::filesystem::path trace_dir;  ///< empty: nothing is bound, only described
};

struct ValidateArguments {
  std::filesystem::path trace_dir;
};

int run_sanitize(const SanitizeArguments& arguments, const CommonArguments& common);
int run_inspect(const InspectArguments& arguments, const CommonArguments& common);
int run_validate(const ValidateArguments& arguments, const CommonArguments& common);

/// The built-in bindings, or those of a file.
Result<BindingSet> load_bindings(const CommonArguments& common);

/// Prints an error for the user and returns exit_failure. `advice` says what to do next.
int report(const Error& error, std::string_view advice = {});

/// Advice for an error's code; empty when there is none.
std::string_view advice_for(std::string_view code);

/// The rejected calls and defects of a survey, most serious first, as text of 80 columns.
std::string describe_tally(const Tally& tally, bool with_all);

}  // namespace cw::cli
