#include "base/process.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/console.h"
#include "base/file.h"

extern char** environ;

namespace cw {
namespace {

constexpr std::size_t max_output = std::size_t{256} << 20,
                      max_errors = 2000;  // of a command run to completion

// Set in the thread that receives the signal, read in others.
std::atomic<int> noted_signal = 0;
std::atomic<int> noted_count = 0;
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler must not lock");

void note_signal(int signal) {
  const int error = errno;  // of the interrupted code
  noted_signal = signal;
  if (++noted_count >= 3) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  errno = error;
}

// Environment with additions, as exec expects it.
std::vector<std::string> merged_environment(const Command& command) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string_view name = text.substr(0, text.find('='));
    bool is_left_out = std::ranges::find(command.removed, name) != command.removed.end();
    for (const auto& [key, value] : command.environment) is_left_out |= key == name;
    if (!is_left_out) result.emplace_back(text);
  }
  for (const auto& [key, value] : command.environment) result.push_back(key + "=" + value);
  return result;
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (const std::string& text : strings) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

// Spawns with stdout and stderr on the given descriptors, in its own process group.
Result<pid_t> spawn(const Command& command, int out, int err) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);

  // Standard streams.
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, out, 1);
  ::posix_spawn_file_actions_adddup2(&actions, err, 2);
  if (!command.directory.empty())
    ::posix_spawn_file_actions_addchdir_np(&actions, command.directory.c_str());

  // No signals blocked or ignored; the child leads its own process group.
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) sigaddset(&defaults, signal);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(
      &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  // Start it through the process tree, which then knows of it at once.
  const auto environment = merged_environment(command);
  int error = 0;
  const pid_t pid = note_started([&] {
    pid_t child = 0;
    error = ::posix_spawnp(&child, command.arguments[0].c_str(), &actions, &attributes,
                           pointers(command.arguments).data(), pointers(environment).data());
    return error == 0 ? child : 0;
  });

  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0)
    return fail("spawn_failed", "cannot start {}: {}", command.arguments[0], std::strerror(error));
  return pid;
}

ExitStatus to_exit_status(int raw) {
  if (WIFSIGNALED(raw)) return {0, WTERMSIG(raw)};
  return {WEXITSTATUS(raw), 0};
}

// Whether a child has ended; it keeps its PID until it is reaped.
bool has_ended(pid_t child) {
  siginfo_t ended{};
  return ::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         ended.si_pid == child;
}

}  // namespace

std::string to_shell(const Command& command) {
  const auto quote = [](const std::string& word) {
    static constexpr std::string_view plain =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,+@%";
    if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
    // Escape what is unsafe on a terminal as $'…', which bash, zsh and ksh read.
    if (for_terminal(word) != word || word.find('\n') != std::string::npos) {
      std::string escaped = "$'";
      for (const char c : word) {
        const auto byte = static_cast<unsigned char>(c);
        const bool is_plain = byte >= 0x20 && byte < 0x7f && c != '\'' && c != '\\';
        escaped += is_plain ? std::string(1, c) : fmt::format("\\x{:02x}", byte);
      }
      return escaped + "'";
    }
    std::string quoted = "'";
    for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return quoted + "'";
  };

  std::string text;
  for (const auto& [name, value] : command.environment) text += name + "=" + quote(value) + " ";
  for (const std::string& argument : command.arguments) text += quote(argument) + " ";
  if (!text.empty()) text.pop_back();
  return text;
}

std::string to_string(const ExitStatus& status) {
  if (status.signal != 0)
    return fmt::format("signal {} ({})", status.signal, ::strsignal(status.signal));
  return fmt::format("exit code {}", status.code);
}

Result<ProcessGroup> ProcessGroup::start(const Command& command, const std::filesystem::path& log,
                                         Orphans orphans) {
  const FileDescriptor file = open_private(log, O_WRONLY | O_APPEND);
  if (!file) return fail("spawn_failed", "cannot write {}: {}", log.string(), std::strerror(errno));
  std::optional<Adoption> adoption;
  if (orphans == Orphans::adopted) adoption.emplace();
  CW_TRY(const pid_t pid, spawn(command, file.get(), file.get()));
  ProcessGroup group(pid);
  if (adoption) group.tree_.adopt_orphans(std::move(*adoption));
  return group;
}

ProcessGroup::ProcessGroup(pid_t id) : id_(id), tree_(id) {}

ProcessGroup::ProcessGroup(ProcessGroup&& other) noexcept
    : id_(std::exchange(other.id_, 0)),
      tree_(std::move(other.tree_)),
      status_(other.status_),
      is_frozen_(other.is_frozen_) {}

ProcessGroup& ProcessGroup::operator=(ProcessGroup&& other) noexcept {
  std::swap(id_, other.id_);
  std::swap(tree_, other.tree_);
  std::swap(status_, other.status_);
  std::swap(is_frozen_, other.is_frozen_);
  return *this;
}

ProcessGroup::~ProcessGroup() {
  stop();
}

std::optional<ExitStatus> ProcessGroup::status() {
  int raw = 0;
  if (status_ || id_ == 0) return status_;
  // Look before it is reaped, while the PID is still its own: its descendants are found by it.
  if (!has_ended(id_)) return status_;
  tree_.look();
  if (::waitpid(id_, &raw, WNOHANG) != id_) return status_;
  note_ended(id_);
  status_ = to_exit_status(raw);
  return status_;
}

void ProcessGroup::stop(std::chrono::milliseconds patience) {
  if (id_ == 0) return;
  is_frozen_ = false;
  tree_.end(patience);
  for (int tries = 0; !status() && tries < 500; ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  id_ = 0;
}

void ProcessGroup::freeze() {
  if (id_ != 0) tree_.signal(SIGSTOP);
  is_frozen_ = true;
}

void ProcessGroup::thaw() {
  if (id_ != 0) tree_.signal(SIGCONT);
  is_frozen_ = false;
}

bool is_group_alive(pid_t group) {
  return ::kill(-group, 0) == 0 && !ProcessTree(group).look().empty();
}

std::string chomp(std::string output) {
  output.resize(output.find_last_not_of('\n') + 1);  // npos + 1 is 0
  return output;
}

Result<std::string> run(const Command& command, std::chrono::seconds limit) {
  int out[2], err[2];
  if (::pipe2(out, O_CLOEXEC) != 0)
    return fail("spawn_failed", "no pipe: {}", std::strerror(errno));
  const FileDescriptor out_end(out[0]), err_end(::pipe2(err, O_CLOEXEC) == 0 ? err[0] : -1);
  FileDescriptor out_start(out[1]), err_start(err_end ? err[1] : -1);
  if (!err_end) return fail("spawn_failed", "no pipe: {}", std::strerror(errno));
  CW_TRY(const pid_t pid, spawn(command, out_start.get(), err_start.get()));
  out_start = FileDescriptor();
  err_start = FileDescriptor();

  ProcessTree tree(pid);
  std::string output, errors;
  pollfd polled[2] = {{out_end.get(), POLLIN, 0}, {err_end.get(), POLLIN, 0}};
  const auto deadline = std::chrono::steady_clock::now() + limit;
  std::string failure;

  // Processes it leaves behind may keep its output open: wait for them only briefly.
  constexpr std::chrono::seconds moment{1};
  std::optional<std::chrono::steady_clock::time_point> ended_at;
  const auto is_over = [&] {
    if (!ended_at && has_ended(pid)) ended_at = std::chrono::steady_clock::now();
    return ended_at && std::chrono::steady_clock::now() > *ended_at + moment;
  };
  while (failure.empty() && (polled[0].fd >= 0 || polled[1].fd >= 0) && !is_over()) {
    ::poll(polled, 2, 100);
    for (int i = 0; i < 2; ++i) {
      char block[4096];
      if (polled[i].fd < 0 || polled[i].revents == 0) continue;
      const ssize_t got = ::read(polled[i].fd, block, sizeof block);
      if (got > 0)
        (i == 0 ? output : errors).append(block, static_cast<std::size_t>(got));
      else if (got == 0)
        polled[i].fd = -1;
    }
    // Only the end of stderr is reported.
    if (errors.size() > 2 * max_errors) errors.erase(0, errors.size() - max_errors);
    if (output.size() > max_output) failure = "too_large";
    if (stop_signal() != 0) failure = "interrupted";
    if (std::chrono::steady_clock::now() > deadline) failure = "timeout";
  }
  if (!failure.empty()) tree.end(std::chrono::seconds(1));
  int raw = 0;
  pid_t waited = 0;
  while ((waited = ::waitpid(pid, &raw, 0)) < 0 && errno == EINTR) {
  }
  note_ended(pid);
  if (waited != pid && failure.empty()) failure = "how it ended is unknown";
  if (!failure.empty()) return fail(failure, "{}: {}", to_shell(command), failure);
  const ExitStatus status = to_exit_status(raw);
  if (!status.is_success()) {
    const std::string_view end = std::string_view(errors).substr(
        errors.size() > max_errors ? errors.size() - max_errors : 0);
    return fail("command_failed", "{}: {}\n{}", to_shell(command), to_string(status), end);
  }
  return output;
}

namespace {

constexpr std::array relayed_signals{SIGINT,  SIGQUIT, SIGTERM, SIGHUP,
                                     SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH};

using Moment = std::chrono::steady_clock::time_point;

// A process in our group that does nothing but note signals. Only it can tell a signal sent to us
// alone from one sent to the group, which the command has already received.
class Witness {
 public:
  explicit Witness(const sigset_t& signals) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return;
    reports_ = FileDescriptor(ends[0]);
    const FileDescriptor start(ends[1]);
    pid_ = ::fork();
    if (pid_ == 0) watch(signals, start.get());
  }
  ~Witness() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  Witness(const Witness&) = delete;
  Witness& operator=(const Witness&) = delete;

  /// Whether it also received a signal that has just reached us.
  bool has_seen(int signal) const {
    constexpr std::chrono::milliseconds patience{10};
    if (pid_ <= 0) return false;
    const Moment deadline = std::chrono::steady_clock::now() + patience;
    pollfd polled{reports_.get(), POLLIN, 0};
    do {
      Report report;
      while (::read(reports_.get(), &report, sizeof report) == sizeof report)
        if (report.signal == signal && report.when > deadline - 10 * patience) return true;
    } while (::poll(&polled, 1, 1) >= 0 && std::chrono::steady_clock::now() < deadline);
    return false;
  }

 private:
  struct Report {
    int signal;
    Moment when;
  };

  // Keeps none of our descriptors open, and does not outlive us.
  [[noreturn]] static void watch(const sigset_t& signals, int out) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (const int standard : {0, 1, 2}) ::close(standard);
    for (;;) {
      const Report report{::sigwaitinfo(&signals, nullptr), std::chrono::steady_clock::now()};
      if (report.signal > 0 && ::write(out, &report, sizeof report) < 0 && errno == EPIPE)
        std::_Exit(0);
    }
  }

  FileDescriptor reports_;
  pid_t pid_ = -1;
};

// Blocks signals for its lifetime; they stay pending until taken.
class BlockedSignals {
 public:
  explicit BlockedSignals(const sigset_t& signals) {
    ::pthread_sigmask(SIG_BLOCK, &signals, &before_);
  }
  ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  const sigset_t& before() const { return before_; }

 private:
  sigset_t before_;
};

}  // namespace

Result<ExitStatus> run_in_foreground(const Command& command,
                                     const std::function<std::chrono::milliseconds()>& meanwhile) {
  sigset_t relayed;
  sigemptyset(&relayed);
  for (const int signal : relayed_signals) sigaddset(&relayed, signal);
  sigset_t taken = relayed;
  sigaddset(&taken, SIGCHLD);
  const BlockedSignals blocked(taken);
  const Witness witness(relayed);

  // Signals that were ignored or blocked stay so in the command, as under nohup.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setsigmask(&attributes, &blocked.before());
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  const auto environment = merged_environment(command);
  pid_t pid = 0;
  const int error =
      ::posix_spawnp(&pid, command.arguments[0].c_str(), nullptr, &attributes,
                     pointers(command.arguments).data(), pointers(environment).data());
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0)
    return fail("spawn_failed", "cannot start {}: {}", command.arguments[0], std::strerror(error));

  // Its PID cannot be reused until it is reaped, which happens here.
  auto next = meanwhile ? meanwhile() : std::chrono::milliseconds(0);
  for (int raw = 0;;) {
    if (::waitpid(pid, &raw, WNOHANG) == pid) return to_exit_status(raw);
    siginfo_t info{};
    const timespec patience{next.count() / 1000, next.count() % 1000 * 1'000'000};
    const int signal =
        next.count() > 0 ? ::sigtimedwait(&taken, &info, &patience) : ::sigwaitinfo(&taken, &info);
    if (signal < 0 && errno == EAGAIN) next = meanwhile();
    if (signal <= 0 || signal == SIGCHLD) continue;
    // The terminal signals the whole group; the code alone shows that, but the witness's report
    // must be consumed.
    const bool is_for_all = witness.has_seen(signal) || info.si_code > 0;
    if (!is_for_all) ::kill(pid, signal);
  }
}

void end_like(const ExitStatus& status) {
  std::fflush(nullptr);
  if (status.signal == 0) std::_Exit(status.code);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  std::signal(status.signal, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, status.signal);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  ::kill(::getpid(), status.signal);
  std::_Exit(128 + status.signal);  // if the signal does not terminate a process
}

void watch_signals() {
  struct sigaction action = {};
  action.sa_handler = note_signal;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGHUP, &action, nullptr);  // a dropped ssh connection
  std::signal(SIGPIPE, SIG_IGN);
}

int stop_signal() {
  return noted_signal;
}

}  // namespace cw
