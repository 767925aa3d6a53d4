#include "record/lost.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <span>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/json.h"
#include "recording/frame.h"

namespace cw {
namespace {

namespace fs = std::filesystem;
using recording::Counts;
using recording::CountsSlot;
using recording::SlotState;

// Zombies have ended.
bool has_ended(std::uint32_t process) {
  const FileDescriptor descriptor(static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(process), 0)));
  if (!descriptor) return errno == ESRCH;
  pollfd waited{descriptor.get(), POLLIN, 0};
  return ::poll(&waited, 1, 0) == 1;
}

// A record behind all others; false where the last one is half written, or the file is another.
bool append_killed(const fs::path& path, std::uint64_t expected_size, const LostCalls& lost) {
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status {};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  if (static_cast<std::uint64_t>(status.st_size) != expected_size) return false;
  const auto payload =
      nlohmann::json::to_cbor({{"record", "killed"}, {"calls", lost.calls}, {"replays", lost.replays}});
  const std::string frame =
      recording::make_frame(std::string_view(reinterpret_cast<const char*>(payload.data()), payload.size()));
  return ::write(file.get(), frame.data(), frame.size()) == static_cast<ssize_t>(frame.size());
}

}  // namespace

CallCounts::CallCounts() {
  FileDescriptor file(::memfd_create("collect-workloads", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  constexpr auto size = static_cast<off_t>(sizeof(Counts));
  if (!file || ::ftruncate(file.get(), size) != 0) return;
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return;
  void* const memory = ::mmap(nullptr, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) return;
  counts_ = static_cast<Counts*>(memory);
  // The rest is zero, which is what slots begin with; touching it would take the memory.
  new (&counts_->header) recording::CountsHeader;
  file_ = std::move(file);
}

CallCounts::~CallCounts() {
  if (counts_ != nullptr) ::munmap(counts_, sizeof(Counts));
}

std::vector<std::pair<std::string, std::string>> CallCounts::environment() const {
  if (!file_) return {};
  return {{recording::counts_variable, fmt::format("/proc/{}/fd/{}", ::getpid(), file_.get())}};
}

LostCalls CallCounts::settle(const fs::path& folder) {
  LostCalls all;
  if (counts_ == nullptr) return all;
  const std::size_t taken = std::min<std::size_t>(counts_->header.taken, recording::counts_slots);
  for (CountsSlot& slot : std::span(counts_->slots).first(taken)) {
    // (A process that is about to take its slot has no number yet.)
    if (slot.process == 0 || slot.state == SlotState::ended || !has_ended(slot.process)) continue;
    const LostCalls lost{slot.calls - std::min(slot.calls.load(), slot.written_calls.load()),
                         slot.replays - std::min(slot.replays.load(), slot.written_replays.load())};
    const std::string name(slot.file, ::strnlen(slot.file, sizeof slot.file));
    if (slot.state == SlotState::recording && name.find('/') == std::string::npos)
      (void)append_killed(folder / name, slot.written_bytes, lost);
    slot.state = SlotState::ended;
    all.calls += lost.calls;
    all.replays += lost.replays;
    all.processes += lost.calls + lost.replays > 0 ? 1 : 0;
  }
  return all;
}

}  // namespace cw
