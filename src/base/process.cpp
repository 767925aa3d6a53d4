#include "base/process.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

extern char** environ;

namespace cw {
namespace {

// Set in whichever thread the signal reaches, read in others.
std::atomic<int> noted_signal = 0;
std::atomic<int> noted_count = 0;
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler must not lock");

void note_signal(int signal) {
  const int error = errno;  // of what was interrupted
  noted_signal = signal;
  if (++noted_count >= 3) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  errno = error;
}

// Environment with additions, as exec wants it.
std::vector<std::string> merged_environment(const Command& command) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string_view name = text.substr(0, text.find('='));
    bool is_replaced = false;
    for (const auto& [key, value] : command.environment) is_replaced |= key == name;
    if (!is_replaced) result.emplace_back(text);
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

// Spawns with stdout and stderr on the given descriptors, in a group of its own.
Result<pid_t> spawn(const Command& command, int out, int err) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, out, 1);
  ::posix_spawn_file_actions_adddup2(&actions, err, 2);
  if (!command.directory.empty()) ::posix_spawn_file_actions_addchdir_np(&actions, command.directory.c_str());
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) sigaddset(&defaults, signal);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const auto environment = merged_environment(command);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, command.arguments[0].c_str(), &actions, &attributes,
                                   pointers(command.arguments).data(), pointers(environment).data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) return fail("spawn_failed", "cannot start {}: {}", command.arguments[0], std::strerror(error));
  return pid;
}

ExitStatus to_exit_status(int raw) {
  if (WIFSIGNALED(raw)) return {0, WTERMSIG(raw)};
  return {WEXITSTATUS(raw), 0};
}

// The fields of /proc/PID/stat after the command's name, which may hold anything in its parentheses.
std::vector<std::string> stat_fields(const std::string& pid) {
  // Files of /proc have no size: to be read until they end.
  std::ifstream file("/proc/" + pid + "/stat");
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  const std::size_t close = content.rfind(')');
  if (close == std::string::npos) return {};
  std::istringstream words(content.substr(close + 1));
  const std::vector<std::string> fields{std::istream_iterator<std::string>(words), {}};
  return fields;  // [0] state, [2] process group, [19] start time
}

}  // namespace

std::string to_shell(const Command& command) {
  const auto quote = [](const std::string& word) {
    static constexpr std::string_view plain =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,+@%";
    if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
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
  if (status.signal != 0) return fmt::format("signal {} ({})", status.signal, ::strsignal(status.signal));
  return fmt::format("exit code {}", status.code);
}

Result<ProcessGroup> ProcessGroup::start(const Command& command, const std::filesystem::path& log) {
  const FileDescriptor file(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file) return fail("spawn_failed", "cannot write {}: {}", log.string(), std::strerror(errno));
  CW_TRY(const pid_t pid, spawn(command, file.get(), file.get()));
  return ProcessGroup(pid);
}

ProcessGroup::ProcessGroup(ProcessGroup&& other) noexcept
    : id_(std::exchange(other.id_, 0)), status_(other.status_), is_frozen_(other.is_frozen_) {}

ProcessGroup& ProcessGroup::operator=(ProcessGroup&& other) noexcept {
  std::swap(id_, other.id_);
  std::swap(status_, other.status_);
  std::swap(is_frozen_, other.is_frozen_);
  return *this;
}

ProcessGroup::~ProcessGroup() {
  stop();
}

std::optional<ExitStatus> ProcessGroup::status() {
  int raw = 0;
  if (!status_ && id_ != 0 && ::waitpid(id_, &raw, WNOHANG) == id_) status_ = to_exit_status(raw);
  return status_;
}

void ProcessGroup::stop(std::chrono::milliseconds patience) {
  if (id_ == 0) return;
  if (is_frozen_) thaw();
  ::kill(-id_, SIGTERM);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (status(), is_group_alive(id_)) {
    if (std::chrono::steady_clock::now() > deadline) ::kill(-id_, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  status();
  id_ = 0;
}

void ProcessGroup::freeze() {
  if (id_ != 0) ::kill(-id_, SIGSTOP);
  is_frozen_ = true;
}

void ProcessGroup::thaw() {
  if (id_ != 0) ::kill(-id_, SIGCONT);
  is_frozen_ = false;
}

std::optional<std::uint64_t> start_time(pid_t pid) {
  const auto fields = stat_fields(std::to_string(pid));
  if (fields.size() < 20) return std::nullopt;
  return std::strtoull(fields[19].c_str(), nullptr, 10);
}

bool is_group_alive(pid_t group) {
  if (::kill(-group, 0) != 0) return false;
  bool alive = false;
  const auto visited = visit_directory("/proc", [&](std::string_view name, bool) {
    if (alive || name.empty() || name[0] < '0' || name[0] > '9') return;
    const auto fields = stat_fields(std::string(name));
    alive = fields.size() > 2 && fields[2] == std::to_string(group) && fields[0] != "Z" && fields[0] != "X";
  });
  return visited ? alive : true;
}

void end_group(pid_t group, std::chrono::milliseconds patience) {
  ::kill(-group, SIGCONT);
  ::kill(-group, SIGTERM);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (is_group_alive(group)) {
    if (std::chrono::steady_clock::now() > deadline) ::kill(-group, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

Result<std::string> run(const Command& command, std::chrono::seconds limit) {
  int out[2], err[2];
  if (::pipe2(out, O_CLOEXEC) != 0) return fail("spawn_failed", "no pipe: {}", std::strerror(errno));
  const FileDescriptor out_end(out[0]), err_end(::pipe2(err, O_CLOEXEC) == 0 ? err[0] : -1);
  FileDescriptor out_start(out[1]), err_start(err_end ? err[1] : -1);
  if (!err_end) return fail("spawn_failed", "no pipe: {}", std::strerror(errno));
  CW_TRY(const pid_t pid, spawn(command, out_start.get(), err_start.get()));
  out_start = FileDescriptor();
  err_start = FileDescriptor();

  std::string output, errors;
  pollfd polled[2] = {{out_end.get(), POLLIN, 0}, {err_end.get(), POLLIN, 0}};
  const auto deadline = std::chrono::steady_clock::now() + limit;
  std::string failure;
  while (failure.empty() && (polled[0].fd >= 0 || polled[1].fd >= 0)) {
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
    if (stop_signal() != 0) failure = "interrupted";
    if (std::chrono::steady_clock::now() > deadline) failure = "timeout";
  }
  if (!failure.empty()) end_group(pid, std::chrono::seconds(2));
  int raw = 0;
  while (::waitpid(pid, &raw, 0) < 0 && errno == EINTR) {
  }
  if (!failure.empty()) return fail(failure, "{}: {}", to_shell(command), failure);
  const ExitStatus status = to_exit_status(raw);
  if (!status.is_success()) {
    const std::string_view end = std::string_view(errors).substr(errors.size() > 2000 ? errors.size() - 2000 : 0);
    return fail("command_failed", "{}: {}\n{}", to_shell(command), to_string(status), end);
  }
  return output;
}

Result<ExitStatus> run_in_foreground(const Command& command) {
  static std::atomic<pid_t> child = 0;
  struct sigaction ignored{}, handed_on{}, before_interrupt, before_quit, before_term, before_hangup;
  ignored.sa_handler = SIG_IGN;
  handed_on.sa_handler = [](int signal) {
    const int error = errno;
    if (const pid_t pid = child; pid > 0) ::kill(pid, signal);
    errno = error;
  };
  child = 0;
  ::sigaction(SIGINT, &ignored, &before_interrupt);
  ::sigaction(SIGQUIT, &ignored, &before_quit);
  ::sigaction(SIGTERM, &handed_on, &before_term);
  ::sigaction(SIGHUP, &handed_on, &before_hangup);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  // What was ignored before stays so, as under nohup.
  const std::pair<int, const struct sigaction*> before[] = {
      {SIGINT, &before_interrupt}, {SIGQUIT, &before_quit}, {SIGTERM, &before_term}, {SIGHUP, &before_hangup}};
  for (const auto& [signal, action] : before)
    if (action->sa_handler != SIG_IGN) sigaddset(&defaults, signal);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  const auto environment = merged_environment(command);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, command.arguments[0].c_str(), nullptr, &attributes,
                                   pointers(command.arguments).data(), pointers(environment).data());
  ::posix_spawnattr_destroy(&attributes);
  int raw = 0;
  if (error == 0) {
    child = pid;
    while (::waitpid(pid, &raw, 0) < 0 && errno == EINTR) {
    }
    child = 0;
  }
  for (const auto& [signal, action] : before) ::sigaction(signal, action, nullptr);
  if (error != 0) return fail("spawn_failed", "cannot start {}: {}", command.arguments[0], std::strerror(error));
  return to_exit_status(raw);
}

void watch_signals() {
  struct sigaction action = {};
  action.sa_handler = note_signal;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGHUP, &action, nullptr);  // an ssh connection that broke
  std::signal(SIGPIPE, SIG_IGN);
}

int stop_signal() {
  return noted_signal;
}

}  // namespace cw
