#include "base/process_tree.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

namespace cw {

struct ProcessStatus {
  ProcessIdentity identity;
  pid_t parent = 0, group = 0;
  bool is_dead = false;  ///< a zombie
};

std::vector<std::string> stat_fields(const std::string& pid) {
  const auto content = read_pseudo_file("/proc/" + pid + "/stat");
  if (!content) return {};  // it has ended

  // The command name may contain anything in its parentheses.
  const std::size_t close = content->rfind(')');
  if (close == std::string::npos) return {};
  std::istringstream words(content->substr(close + 1));
  std::vector<std::string> fields{std::istream_iterator<std::string>(words), {}};
  return fields.size() < 20 ? std::vector<std::string>() : fields;
}

namespace {

std::optional<ProcessStatus> status_of(const std::string& pid) {
  const std::vector<std::string> fields = stat_fields(pid);
  if (fields.empty()) return {};

  // [0] state, [1] parent, [2] process group, [19] start time
  ProcessStatus status;
  status.identity = {static_cast<pid_t>(std::atol(pid.c_str())),
                     std::strtoull(fields[19].c_str(), nullptr, 10)};
  status.parent = static_cast<pid_t>(std::atol(fields[1].c_str()));
  status.group = static_cast<pid_t>(std::atol(fields[2].c_str()));
  status.is_dead = fields[0] == "Z" || fields[0] == "X";
  return status;
}

std::map<pid_t, ProcessStatus> all_processes() {
  std::map<pid_t, ProcessStatus> all;
  (void)visit_directory("/proc", [&](std::string_view name, bool) {
    if (name.empty() || name[0] < '0' || name[0] > '9') return;
    if (const auto status = status_of(std::string(name)))
      all.emplace(status->identity.pid, *status);
  });
  return all;
}

std::mutex children_mutex;
std::set<pid_t> started_children;

bool is_orphan(const ProcessStatus& status) {
  const std::lock_guard lock(children_mutex);
  return status.parent == ::getpid() && !started_children.contains(status.identity.pid);
}

}  // namespace

ProcessTree::ProcessTree(const std::vector<ProcessIdentity>& members)
    : members_(members.begin(), members.end()) {
  for (const ProcessIdentity& member : members) waited_for_.insert(member.pid);
}

ProcessTree::ProcessTree(pid_t leader)
    : ProcessTree(std::vector<ProcessIdentity>{{leader, start_time(leader).value_or(0)}}) {}

std::optional<std::uint64_t> start_time(pid_t pid) {
  const auto status = status_of(std::to_string(pid));
  if (!status) return std::nullopt;
  return status->identity.started;
}

bool send_signal(const ProcessIdentity& process, int signal) {
  // Opened before the start time is checked: the process that a pidfd refers to cannot change.
  const FileDescriptor named(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0)));
  if (start_time(process.pid) != process.started) return false;
  if (named) return ::syscall(SYS_pidfd_send_signal, named.get(), signal, nullptr, 0) == 0;
  return errno == ENOSYS && ::kill(process.pid, signal) == 0;  // before Linux 5.3
}

const std::set<ProcessIdentity>& ProcessTree::look() {
  const auto all = all_processes();
  const pid_t own = ::getpid();

  // The known processes, and the groups they lead.
  std::set<pid_t> inside, groups;
  for (const ProcessIdentity& member : members_) {
    const auto found = all.find(member.pid);
    if (found == all.end() || found->second.identity != member) continue;
    inside.insert(member.pid);
    if (found->second.group == member.pid) groups.insert(member.pid);
  }
  if (adopts_) {
    const std::set<pid_t> strange = look_for_strangers(all);
    for (const auto& [pid, status] : all)
      if (is_orphan(status) && !strange.contains(pid)) inside.insert(pid);
  }

  // Add children until there is nothing new. A zombie still has its PID, and so its children.
  for (bool has_news = true; has_news;) {
    has_news = false;
    for (const auto& [pid, status] : all)
      if (pid != own && (inside.contains(status.parent) || groups.contains(status.group)) &&
          inside.insert(pid).second)
        has_news = true;
  }

  std::set<ProcessIdentity> alive;
  for (const pid_t pid : inside) {
    const ProcessStatus& status = all.at(pid);
    if (!status.is_dead) alive.insert(status.identity);
    // Reap orphans that we have adopted.
    if (status.is_dead && status.parent == own && !waited_for_.contains(pid))
      ::waitpid(pid, nullptr, WNOHANG);
  }
  members_ = std::move(alive);
  return members_;
}

std::set<pid_t> ProcessTree::look_for_strangers(const Processes& all) {
  std::set<pid_t> strange;
  for (const ProcessIdentity& stranger : strangers_) {
    const auto found = all.find(stranger.pid);
    if (found != all.end() && found->second.identity == stranger) strange.insert(stranger.pid);
  }
  for (bool has_news = true; has_news && !strange.empty();) {
    has_news = false;
    for (const auto& [pid, status] : all)
      if (strange.contains(status.parent) && strange.insert(pid).second) has_news = true;
  }
  strangers_.clear();
  for (const pid_t pid : strange) strangers_.insert(all.at(pid).identity);
  return strange;
}

void ProcessTree::signal(int number) {
  constexpr int max_rounds = 8;
  std::set<ProcessIdentity> reached;
  for (int round = 0; round < max_rounds; ++round) {
    bool has_news = false;
    for (const ProcessIdentity& member : std::set<ProcessIdentity>(look()))
      if (reached.insert(member).second) has_news = send_signal(member, number) || has_news;
    if (!has_news) return;
  }
}

void ProcessTree::end(std::chrono::milliseconds patience) {
  signal(SIGCONT);
  signal(SIGTERM);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  constexpr std::chrono::seconds last_patience{5};
  while (!look().empty() && std::chrono::steady_clock::now() < deadline + last_patience) {
    if (std::chrono::steady_clock::now() > deadline) signal(SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

Adoption::Adoption() {
  for (const auto& [pid, status] : all_processes())
    if (is_orphan(status)) strangers_.insert(status.identity);
  is_possible_ = ::getpid() != 1 && ::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0;
}

void ProcessTree::adopt_orphans(Adoption adoption) {
  strangers_ = std::move(adoption.strangers_);
  adopts_ = adoption.is_possible_;
}

pid_t note_started(const std::function<pid_t()>& start) {
  const std::lock_guard lock(children_mutex);
  const pid_t child = start();
  if (child > 0) started_children.insert(child);
  return child;
}

void note_ended(pid_t child) {
  const std::lock_guard lock(children_mutex);
  started_children.erase(child);
}

}  // namespace cw
