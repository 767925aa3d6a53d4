// Child processes that lead a process group of their own, and signals to this process.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "base/process_tree.h"
#include "base/result.h"

namespace cw {

struct Command {
  std::vector<std::string> arguments;  ///< the first is looked up in PATH
  std::vector<std::pair<std::string, std::string>> environment{};  ///< added to ours
  std::filesystem::path directory{};                               ///< empty: ours
  std::vector<std::string> removed{};  ///< variables of ours that it does not inherit
};

/// For messages and --dry-run: the command as one would type it into a shell.
std::string to_shell(const Command& command);

/// How a process ended.
struct ExitStatus {
  int code = 0;    ///< exit code, when signal is 0
  int signal = 0;  ///< the signal that killed it
  bool is_success() const { return code == 0 && signal == 0; }
};
/// "exit code 1", "signal 9 (Killed)"
std::string to_string(const ExitStatus& status);

/// A running process with its own process group, and everything it starts (process_tree.h). Ending
/// it ends all of these, even if the leader died first.
class ProcessGroup {
 public:
  enum class Orphans { left, adopted };

  /// Starts `command` with its stdout and stderr appended to `log` and stdin from /dev/null.
  /// Orphans that this process did not start belong to it if they are adopted: see Adoption. Error
  /// code "spawn_failed".
  static Result<ProcessGroup> start(const Command& command, const std::filesystem::path& log,
                                    Orphans orphans = Orphans::left);
  ProcessGroup(ProcessGroup&& other) noexcept;
  ProcessGroup& operator=(ProcessGroup&& other) noexcept;
  /// Ends it gracefully, as stop() does.
  ~ProcessGroup();

  pid_t id() const { return id_; }
  /// How the leader ended; nothing while it runs.
  std::optional<ExitStatus> status();
  /// Its processes that are alive now; to be called now and then, so that a process is known before
  /// its parent dies.
  const std::set<ProcessIdentity>& look() { return tree_.look(); }
  /// SIGTERM, then SIGKILL for what is left after `patience`. Thaws it first if frozen.
  void stop(std::chrono::milliseconds patience = std::chrono::seconds(15));
  /// Sends SIGSTOP or SIGCONT to all its processes.
  void freeze();
  void thaw();
  bool is_frozen() const { return is_frozen_; }

 private:
  explicit ProcessGroup(pid_t id);
  pid_t id_ = 0;
  ProcessTree tree_;
  std::optional<ExitStatus> status_;
  bool is_frozen_ = false;
};

/// Whether any process of the group is alive (zombies do not count).
bool is_group_alive(pid_t group);

/// A command's output without the newlines at its end.
std::string chomp(std::string output);

/// Runs a command to its end and returns its stdout. Error codes: "spawn_failed", "command_failed"
/// (with the end of its stderr), "timeout", "interrupted", "too_large" (it printed more than 256
/// MB).
Result<std::string> run(const Command& command,
                        std::chrono::seconds limit = std::chrono::seconds(600));

/// Runs a command to completion on our own terminal: it has our stdin, stdout and stderr and our
/// process group, so that signals from the terminal (Ctrl-C, a resize) reach it directly. INT,
/// QUIT, TERM, HUP, USR1, USR2, CONT and WINCH are forwarded to it if sent to us alone. Error code
/// "spawn_failed". `meanwhile` is called periodically and returns the time until the next call; 0:
/// never again.
Result<ExitStatus> run_in_foreground(
    const Command& command, const std::function<std::chrono::milliseconds()>& meanwhile = {});

/// Ends this process as `status` says: with its exit code, or by its signal, without dumping our
/// own core.
[[noreturn]] void end_like(const ExitStatus& status);

/// From now on SIGINT, SIGTERM and SIGHUP are noted instead of ending the process; the third signal
/// ends it.
void watch_signals();
/// The signal that asked us to stop; 0 if none has.
int stop_signal();

}  // namespace cw
