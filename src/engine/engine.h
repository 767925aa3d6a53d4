// A running inference engine: started in a process group of its own, waited for, watched and
// stopped, with all processes it starts, whatever groups and sessions they lead.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/process.h"
#include "traffic/http.h"

namespace cw {

struct EngineOptions {
  Command command;
  std::filesystem::path log;
  std::string url;                         ///< without a path
  HttpHeaders headers;                     ///< for requests to it
  std::chrono::seconds start_limit{1800};  ///< loading a large model's weights takes time
  std::filesystem::path pid_folder;        ///< for records of running engines; see end_orphans()
  std::filesystem::path dumps;             ///< noted in the record
  std::string resume;                      ///< likewise: the command that resumes the run
};

class Engine {
 public:
  /// Starts it. Error codes: "spawn_failed", and those of writing its record.
  static Result<Engine> start(const EngineOptions& options);
  /// Waits until /health returns 200, calling `meanwhile` about fifty times a second; its error
  /// ends the wait. Error codes: "engine_died" (the message explains the log), "engine_slow",
  /// "engine_refuses" (it requires a key), "interrupted".
  Result<void> wait_until_ready(const EngineOptions& options,
                                const std::function<Result<void>()>& meanwhile);
  Engine(Engine&&) noexcept = default;
  Engine& operator=(Engine&&) noexcept = default;
  ~Engine();

  /// How it ended, if it did.
  std::optional<ExitStatus> status() { return group_->status(); }
  /// To be called now and then: records its processes, so that a later run can end them if this one
  /// is killed.
  void note_processes();
  pid_t id() const { return group_->id(); }
  void freeze() { group_->freeze(); }
  void thaw() { group_->thaw(); }
  bool is_frozen() const { return group_->is_frozen(); }
  /// SIGTERM to all its processes, then SIGKILL to what is left. None of them survives.
  void stop();
  const std::filesystem::path& log() const { return log_; }

 private:
  Engine(ProcessGroup group, const EngineOptions& options, std::filesystem::path record);

  std::optional<ProcessGroup> group_;
  std::filesystem::path log_, record_;
  Json description_;                 ///< the record without the processes
  std::set<ProcessIdentity> noted_;  ///< processes in the record
};

/// Explains from the end of a log why an engine died and what to try; the last lines themselves if
/// nothing is recognised.
std::string explain_death(const std::filesystem::path& log,
                          const std::optional<ExitStatus>& status);

/// The last non-blank line of a log.
std::string last_line(const std::filesystem::path& log);

/// Ends engines left running by earlier runs of this program that were killed: the processes that
/// the record identifies by pid and start time, and their descendants. Returns messages for the
/// user, without the hint on how to resume if that is `resume`.
std::vector<std::string> end_orphans(const std::filesystem::path& pid_folder,
                                     const std::string& resume = {});

/// A TCP port that is currently free on `host` (an IP address or name); `wanted` itself if that is
/// not 0. Error codes: "port_taken", "no_port".
Result<int> free_port(const std::string& host, int wanted = 0);

/// "http://127.0.0.1:30000", "http://[::1]:30000"
std::string url_of(const std::string& host, int port);

}  // namespace cw
