// Child processes that lead a process group of their own, and signals to this one.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace cw {

struct Command {
  std::vector<std::string> arguments;                              ///< the first is looked up in PATH
  std::vector<std::pair<std::string, std::string>> environment{};  ///< added to ours
  std::filesystem::path directory{};                               ///< empty: ours
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

/// A running process group. Ending it takes every process in it, also those whose leader died first.
class ProcessGroup {
 public:
  /// Starts `command` with its stdout and stderr appended to `log` and stdin from /dev/null.
  /// Error code "spawn_failed".
  static Result<ProcessGroup> start(const Command& command, const std::filesystem::path& log);
  ProcessGroup(ProcessGroup&& other) noexcept;
  ProcessGroup& operator=(ProcessGroup&& other) noexcept;
  /// Ends the group in order, as stop() does.
  ~ProcessGroup();

  pid_t id() const { return id_; }
  /// How the leader ended; nothing while it runs.
  std::optional<ExitStatus> status();
  /// TERM, then KILL for what is left after `patience`. A frozen group is thawed first.
  void stop(std::chrono::milliseconds patience = std::chrono::seconds(15));
  /// SIGSTOP and SIGCONT to the whole group.
  void freeze();
  void thaw();
  bool is_frozen() const { return is_frozen_; }

 private:
  explicit ProcessGroup(pid_t id) : id_(id) {}
  pid_t id_ = 0;
  std::optional<ExitStatus> status_;
  bool is_frozen_ = false;
};

/// Start time of a process in clock ticks since boot (/proc/PID/stat, field 22): together with its id it names
/// a process for as long as the machine runs. Nothing when there is no such process.
std::optional<std::uint64_t> start_time(pid_t pid);

/// Whether any process of the group is alive (zombies do not count).
bool is_group_alive(pid_t group);

/// Ends a group that is not our child: TERM, KILL after `patience`.
void end_group(pid_t group, std::chrono::milliseconds patience);

/// Runs a command to its end and returns its stdout. Error codes: "spawn_failed", "command_failed" (with the
/// end of its stderr), "timeout", "interrupted".
Result<std::string> run(const Command& command, std::chrono::seconds limit = std::chrono::seconds(600));

/// Runs a command on our own terminal to its end: it has our stdin, stdout and stderr and our process group, so that Ctrl-C
/// reaches it; meanwhile we ignore it, and hand SIGTERM and SIGHUP on. Error code "spawn_failed".
Result<ExitStatus> run_in_foreground(const Command& command);

/// From now on SIGINT, SIGTERM and SIGHUP are noted instead of ending the process; the third one ends it.
void watch_signals();
/// The signal that asked us to stop; 0 while none did.
int stop_signal();

}  // namespace cw
