#include "counter.h"

#include <charconv>
#include <fstream>
#include <iterator>
#include <string_view>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cw::recorder {
namespace {

std::string link_target(const char* path) {
  char target[64];
  const ssize_t size = ::readlink(path, target, sizeof target);
  return size < 0 ? std::string() : std::string(target, static_cast<std::size_t>(size));
}

std::uint64_t number_in(std::string_view text) {
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// Field 22 of /proc/self/stat; the name, which may contain any character, ends at the last
// parenthesis.
std::uint64_t own_start_time() {
  std::ifstream file("/proc/self/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::size_t at = text.rfind(')');
  for (int field = 2; at != std::string::npos && field < 22; ++field) at = text.find(' ', at + 1);
  return at == std::string::npos ? 0 : number_in(std::string_view(text).substr(at + 1));
}

}  // namespace

recording::CountsSlot* claim_counts(const std::string& path) {
  using recording::Counts;

  // Check the link first: opening a file that is no longer ours may have side effects.
  if (path.empty() || link_target(path.c_str()) != recording::counts_target) return nullptr;
  const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (file < 0) return nullptr;

  // Memory that can shrink would kill the engine (SIGBUS).
  struct stat status {};
  const int seals = ::fcntl(file, F_GET_SEALS);
  const bool is_ours = seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && ::fstat(file, &status) == 0 &&
                       status.st_size == static_cast<off_t>(sizeof(Counts));
  void* const memory =
      is_ours ? ::mmap(nullptr, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
              : MAP_FAILED;
  ::close(file);
  if (memory == MAP_FAILED) return nullptr;

  auto& counts = *static_cast<Counts*>(memory);
  const std::uint32_t number = counts.header.magic == recording::counts_magic
                                   ? counts.header.taken.fetch_add(1)
                                   : static_cast<std::uint32_t>(recording::counts_slots);
  if (number >= recording::counts_slots) {
    ::munmap(memory, sizeof(Counts));
    return nullptr;
  }

  // Our PID in the namespace of that /proc, which is the lender's; getpid() gives the one in our
  // own.
  recording::CountsSlot& slot = counts.slots[number];
  slot.started = own_start_time();
  slot.process = static_cast<std::uint32_t>(number_in(link_target("/proc/self")));
  return &slot;
}

}  // namespace cw::recorder
