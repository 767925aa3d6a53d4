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
  std::vector<std::string> removed{};  ///< variables of ours that it does not get
};

/// For messages and --dry-run: the command as one would type it into a shell.
std::string to_shell(const Command& command);

/// How a process ended.
struct ExitStatus {
  int code = 0;    ///< exit code, when signal is 0
  int signal = 0;  ///< that killed it
  bool is_success() const { return code == 0 && signal == 0; }
};
/// "exit code 1", "signal 9 (Killed)"
std::string to_string(const ExitStatus& status);

/// A running process with a group of its own, and all that comes of it (process_tree.h). Ending it
/// takes every process of these, also those whose leader died first.
class ProcessGroup {
 public:
  /// Starts `command` with its stdout and stderr appended to `log` and stdin from /dev/null.
  /// Error code "spawn_failed".
  static Result<ProcessGroup> start(const Command& command, const std::filesystem::path& log);
  ProcessGroup(ProcessGroup&& other) noexcept;
  ProcessGroup& operator=(ProcessGroup&& other) noexcept;
  /// Ends it in order, as stop() does.
  ~ProcessGroup();

  pid_t id() const { return id_; }
  /// Orphans that nobody here has started belong to it from now on: see ProcessTree.
  void adopt_orphans() { tree_.adopt_orphans(); }
  /// How the leader ended; nothing while it runs.
  std::optional<ExitStatus> status();
  /// What is alive of it now; to be asked now and then, so that a process is known before its
  /// parent dies.
  const std::set<ProcessIdentity>& look() { return tree_.look(); }
  /// TERM, then KILL for what is left after `patience`. What is frozen is thawed first.
  void stop(std::chrono::milliseconds patience = std::chrono::seconds(15));
  /// SIGSTOP and SIGCONT to all of it.
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

/// Runs a command to its end and returns its stdout. Error codes: "spawn_failed", "command_failed"
/// (with the end of its stderr), "timeout", "interrupted", "too_large" (it printed more than 256
/// MB).
Result<std::string> run(const Command& command,
                        std::chrono::seconds limit = std::chrono::seconds(600));

/// Runs a command on our own terminal to its end: it has our stdin, stdout and stderr and our
/// process group, so that what the terminal sends (Ctrl-C, a change of its size) reaches it without
/// us. What is sent to us alone of INT, QUIT, TERM, HUP, USR1, USR2, CONT and WINCH is handed on to
/// it. Error code "spawn_failed". `meanwhile` is asked now and then, as often as it says; 0: not
/// again.
Result<ExitStatus> run_in_foreground(
    const Command& command, const std::function<std::chrono::milliseconds()>& meanwhile = {});

/// Ends this process as `status` says: with its exit code, or by its signal, without a core of our
/// own.
[[noreturn]] void end_like(const ExitStatus& status);

/// From now on SIGINT, SIGTERM and SIGHUP are noted instead of ending the process; the third one
/// ends it.
void watch_signals();
/// The signal that asked us to stop; 0 while none did.
int stop_signal();

}  // namespace cw
