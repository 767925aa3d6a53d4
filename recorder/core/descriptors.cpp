#include "descriptors.h"

#include <cerrno>
#include <cstdlib>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "quiet_thread.h"

namespace cw::recorder {
namespace {

// From linux/close_range.h and the system call tables: the same number on every architecture.
constexpr long close_range_call = 436;
constexpr unsigned close_range_unshare = 1u << 1;

// Closes all descriptors from `first` on; the table belongs to the calling thread alone.
bool close_from(unsigned first) {
  DIR* const listing = ::opendir("/proc/thread-self/fd");
  if (listing == nullptr) return false;

  // Collect the numbers first: closing while reading would skip some.
  std::vector<int> numbers;
  while (const dirent* const entry = ::readdir(listing)) {
    const int number = std::atoi(entry->d_name);
    if (entry->d_name[0] != '.' && number >= static_cast<int>(first) && number != ::dirfd(listing))
      numbers.push_back(number);
  }
  ::closedir(listing);
  for (const int number : numbers) ::close(number);
  return true;
}

}  // namespace

bool leave_shared_descriptors(unsigned first) noexcept {
  // Linux 5.9. Container seccomp filters allow it, unlike unshare.
  if (::syscall(close_range_call, first, ~0u, close_range_unshare) == 0) return true;
  try {
    return ::unshare(CLONE_FILES) == 0 && close_from(first);
  } catch (const std::exception&) {
    return false;  // no memory
  }
}

bool can_leave_shared_descriptors() {
  bool can = false;
  quiet_thread([&can] { can = leave_shared_descriptors(0); }).join();
  return can;
}

void write_to_stderr(std::string_view line, const FileIdentity& expected) noexcept {
  const auto write = [&] {
    // From here on descriptor 2 is this thread's copy: what is checked is what is written to.
    struct stat status {};
    if (!leave_shared_descriptors(3) || ::fstat(STDERR_FILENO, &status) != 0) return;
    if (FileIdentity{status.st_dev, status.st_ino} != expected) return;
    while (!line.empty()) {
      const ssize_t count = ::write(STDERR_FILENO, line.data(), line.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;
      line.remove_prefix(static_cast<std::size_t>(count));
    }
  };
  try {
    quiet_thread(write).join();
  } catch (const std::exception&) {
    // no thread available: nothing is reported
  }
}

}  // namespace cw::recorder
