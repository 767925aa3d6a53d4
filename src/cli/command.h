// A command of the program: it declares its options, and it runs.
//
// Each is one file of this folder, with a class and a function that makes it, and a line in
// main.cpp's list. The headers beside it are what several commands share.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/options.h"

namespace cw::cli {

enum ExitStatus {
  exit_success = 0,
  exit_failure = 1,
  exit_usage = 2,
  exit_no_workloads = 3,
  exit_interrupted = 130,  ///< by SIGINT, as shells have it
};

/// What every command takes.
struct CommonArguments {
  bool is_json = false;                  ///< the result as JSON on stdout
  bool is_quiet = false;                 ///< no progress
  std::size_t threads = 0;               ///< 0: as many as there are cores
  std::filesystem::path bindings;        ///< empty: the built-in ones
  const ProgramView* program = nullptr;  ///< all commands and their options
};

class Command {
 public:
  virtual ~Command() = default;
  virtual std::string name() const = 0;
  /// One line, without a full stop.
  virtual std::string description() const = 0;
  virtual void declare(Options& options) = 0;
  /// Whether it has the common options, and --json among them.
  virtual bool has_common_options() const { return true; }
  virtual bool has_json() const { return true; }

  /// Before options are parsed: all words, the command's name first, as they are to be parsed.
  virtual Result<std::vector<std::string>> expand(std::vector<std::string> words) { return words; }
  /// What was not given and has to be, as far as options cannot say so; empty: nothing.
  virtual std::string missing() const { return {}; }
  /// What to do when the words were wrong; may be empty.
  virtual std::string usage_advice() const { return {}; }

  /// The process's exit status.
  virtual int run(const CommonArguments& common) = 0;
};

}  // namespace cw::cli
