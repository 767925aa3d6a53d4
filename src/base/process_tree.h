// A process and everything it started.
//
// Workers may lead sessions and groups of their own (torchrun's and Ray's do), and outlive what
// started them. So a tree consists of the leader's group, the descendants of its members (by the
// parent pids in /proc), and every process ever seen to be a member. A process is identified by pid
// and start time, and signals go to it alone (pidfd_open(2)): a reused pid is never signalled.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <sys/types.h>

namespace cw {

/// The fields of /proc/PID/stat after the command name: [0] is the state, which proc(5) counts as
/// the third. At least 20, or none if there is no such process.
std::vector<std::string> stat_fields(const std::string& pid);

/// Start time of a process in clock ticks since boot (/proc/PID/stat, field 22): together with its
/// pid it identifies a process until the next reboot. Nothing if there is no such process.
std::optional<std::uint64_t> start_time(pid_t pid);

struct ProcessIdentity {
  pid_t pid = 0;
  std::uint64_t started = 0;  ///< as start_time()
  auto operator<=>(const ProcessIdentity&) const = default;
};

/// Sends a signal to exactly this process; false if it is gone.
bool send_signal(const ProcessIdentity& process, int signal);

struct ProcessStatus;

/// From its construction on, descendants whose parents have died become children of this process
/// (subreaper). It is made before what may leave some is started, or the first would be lost.
/// Children that are there already (of a shell that exec'ed this program) stay apart; and if we are
/// the first process of a container, orphans may be anybody's, and are left.
class Adoption {
 public:
  Adoption();

 private:
  friend class ProcessTree;
  std::set<ProcessIdentity> strangers_;
  bool is_possible_ = false;
};

class ProcessTree {
 public:
  ProcessTree() = default;
  /// `members` are known to belong to it, as do the groups that any of them lead. Their parents
  /// reap them.
  explicit ProcessTree(const std::vector<ProcessIdentity>& members);
  /// The tree of a live process and its group.
  explicit ProcessTree(pid_t leader);

  /// Orphans that this process did not start belong to this tree. Only one tree at a time may do
  /// this.
  void adopt_orphans(Adoption adoption);

  /// Its live processes (zombies do not count); remembered from then on.
  const std::set<ProcessIdentity>& look();
  const std::set<ProcessIdentity>& members() const { return members_; }

  /// Signals all its live processes; repeats while new ones appear, because it may be starting
  /// processes.
  void signal(int number);
  /// SIGCONT and SIGTERM, then SIGKILL for what is left after `patience`. Returns when nothing is
  /// alive except what cannot be killed (another user's, or stuck on a broken device).
  void end(std::chrono::milliseconds patience);

 private:
  using Processes = std::map<pid_t, ProcessStatus>;

  std::set<pid_t> look_for_strangers(const Processes& all);

  std::set<ProcessIdentity> members_;
  std::set<pid_t> waited_for_;           ///< reaped by others; our other children are reaped here
  std::set<ProcessIdentity> strangers_;  ///< earlier children and their descendants
  bool adopts_ = false;
};

/// Marks what this process starts itself, until it has been reaped, as not an orphan; no tree is
/// inspected meanwhile. `start` returns the child's pid, or 0.
pid_t note_started(const std::function<pid_t()>& start);
void note_ended(pid_t child);

}  // namespace cw
