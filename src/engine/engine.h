// A running inference engine: started in a process group of its own, waited for, watched, ended;
// with all processes that come of it, whatever groups and sessions they lead.
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
  HttpHeaders headers;                     ///< that it wants to be asked with
  std::chrono::seconds start_limit{1800};  ///< weights of a large model take their time
  std::filesystem::path pid_folder;        ///< folder of records of what runs; see end_orphans()
  std::filesystem::path dumps;             ///< noted in the record
  std::string resume;                      ///< likewise: the command that goes on with the run
};

class Engine {
 public:
  /// Starts it. Error codes: "spawn_failed", and those of writing its record.
  static Result<Engine> start(const EngineOptions& options);
  /// Waits until /health answers 200, and calls `meanwhile` about fifty times a second; its error
  /// ends the wait. Error codes: "engine_died" (the message explains the log), "engine_slow",
  /// "engine_refuses" (it wants a key), "interrupted".
  Result<void> wait_until_ready(const EngineOptions& options,
                                const std::function<Result<void>()>& meanwhile);
  Engine(Engine&&) noexcept = default;
  Engine& operator=(Engine&&) noexcept = default;
  ~Engine();

  /// How it ended, if it did.
  std::optional<ExitStatus> status() { return group_->status(); }
  /// To be called now and then: notes which processes it has, for whoever has to end them when this
  /// one is killed.
  void note_processes();
  pid_t id() const { return group_->id(); }
  void freeze() { group_->freeze(); }
  void thaw() { group_->thaw(); }
  bool is_frozen() const { return group_->is_frozen(); }
  /// TERM to all its processes, KILL to what is left. None of them survives.
  void stop();
  const std::filesystem::path& log() const { return log_; }

 private:
  Engine(ProcessGroup group, const EngineOptions& options, std::filesystem::path record);

  std::optional<ProcessGroup> group_;
  std::filesystem::path log_, record_;
  Json description_;                 ///< what the record says but for the processes
  std::set<ProcessIdentity> noted_;  ///< that it has
};

/// What the end of a log says about why an engine died, and what to try; the last lines themselves
/// where nothing is recognised.
std::string explain_death(const std::filesystem::path& log,
                          const std::optional<ExitStatus>& status);

/// The last line of a log that says something.
std::string last_line(const std::filesystem::path& log);

/// Engines that earlier runs of this program started and, killed themselves, did not end. They are
/// ended now: the processes that the record names by id and start time, and what has come of these.
/// Returns what there is to say, but for how to go on when that is `resume`.
std::vector<std::string> end_orphans(const std::filesystem::path& pid_folder,
                                     const std::string& resume = {});

/// A TCP port that is free on `host` (an IP address or name) now; `wanted` itself when that is not
/// 0. Error codes: "port_taken", "no_port".
Result<int> free_port(const std::string& host, int wanted = 0);

/// "http://127.0.0.1:30000", "http://[::1]:30000"
std::string url_of(const std::string& host, int port);

}  // namespace cw
