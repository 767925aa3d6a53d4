// A process and all that came of it.
//
// Workers may lead sessions and groups of their own (torchrun's and Ray's do), and outlive what
// started them. So a tree is the leader's group, the descendants of whatever belongs to it (by the
// parents that /proc tells), and what was once seen to. A process is named by its number and its
// start time, and signals go to it alone (pidfd_open(2)): a number that has become another's is
// never signalled.
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

/// Start time of a process in clock ticks since boot (/proc/PID/stat, field 22): together with its
/// id it names a process for as long as the machine runs. Nothing when there is no such process.
std::optional<std::uint64_t> start_time(pid_t pid);

struct ProcessIdentity {
  pid_t pid = 0;
  std::uint64_t started = 0;  ///< as start_time()
  auto operator<=>(const ProcessIdentity&) const = default;
};

/// Sends a signal to this very process; false when it is gone.
bool send_signal(const ProcessIdentity& process, int signal);

struct ProcessStatus;

class ProcessTree {
 public:
  ProcessTree() = default;
  /// `members` are known to belong to it; the group of those that lead one does, too. Whoever
  /// started them waits for them.
  explicit ProcessTree(const std::vector<ProcessIdentity>& members);
  /// Of a process that is alive now, and its group.
  explicit ProcessTree(pid_t leader);

  /// From now on descendants whose parents have died become children of this process; those that
  /// nobody here has started belong to this tree. Of one tree at a time. Who was a child before (of
  /// a shell that became this program) belongs to nobody here, nor do its descendants; and for the
  /// first process of a container orphans may be anybody's.
  void adopt_orphans();

  /// What is alive of it now (zombies are not); remembered from then on.
  const std::set<ProcessIdentity>& look();
  const std::set<ProcessIdentity>& members() const { return members_; }

  /// To all that is alive of it; again while there is something new, because it may be starting
  /// processes.
  void signal(int number);
  /// CONT and TERM, then KILL for what is left after `patience`. Returns when nothing is alive, or
  /// cannot be ended (another user's, or one that waits for a broken device).
  void end(std::chrono::milliseconds patience);

 private:
  using Processes = std::map<pid_t, ProcessStatus>;

  std::set<pid_t> look_for_strangers(const Processes& all);

  std::set<ProcessIdentity> members_;
  std::set<pid_t> waited_for_;           ///< by others; what else becomes our child is buried here
  std::set<ProcessIdentity> strangers_;  ///< children that were here before, and what came of them
  bool adopts_ = false;
};

/// What this process starts itself, and has waited for, is no orphan; no tree is looked at
/// meanwhile. `start` returns the child's number, or 0.
pid_t note_started(const std::function<pid_t()>& start);
void note_ended(pid_t child);

}  // namespace cw
