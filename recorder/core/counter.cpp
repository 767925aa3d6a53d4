#include "counter.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cw::recorder {

recording::CountsSlot* claim_counts(const std::string& path) {
  using recording::Counts;
  if (path.empty()) return nullptr;
  const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (file < 0) return nullptr;

  // Memory that could shrink would end the engine (SIGBUS); a number that has become another's is no such memory.
  struct stat status {};
  const int seals = ::fcntl(file, F_GET_SEALS);
  const bool is_ours = seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && ::fstat(file, &status) == 0 &&
                       status.st_size == static_cast<off_t>(sizeof(Counts));
  void* const memory =
      is_ours ? ::mmap(nullptr, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
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
  counts.slots[number].process = static_cast<std::uint32_t>(::getpid());
  return &counts.slots[number];
}

}  // namespace cw::recorder
