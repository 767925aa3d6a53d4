#include "capture/recorder/lost.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/console.h"
#include "base/json.h"
#include "base/process_tree.h"
#include "recording/frame.h"
#include "recording/records.h"

namespace cw::recording {
namespace {

namespace fs = std::filesystem;

enum class Life { running, dying, over };

// A PID has been reused if its process started at another time. A killed process may take seconds
// to free its memory, and counts until then.
Life life_of(const CountsSlot& slot) {
  const fs::path process = fs::path("/proc") / std::to_string(slot.process);
  const std::vector<std::string> fields = stat_fields(std::to_string(slot.process));
  constexpr std::size_t state = 0, flags = 6, started = 19;
  if (fields.empty() || fields[started] != std::to_string(slot.started)) return Life::over;

  // A thread group leader may have ended while other threads have not.
  std::error_code error;
  const auto threads =
      std::distance(fs::directory_iterator(process / "task", error), fs::directory_iterator());
  if ((fields[state] == "Z" || fields[state] == "X") && threads <= 1) return Life::over;
  constexpr unsigned long exiting = 4;  // PF_EXITING
  if ((std::stoul(fields[flags]) & exiting) != 0) return Life::dying;
  constexpr unsigned long long killed = 1ull
                                        << (9 - 1);  // SIGKILL, pending for one thread or for all
  std::istringstream status(read_pseudo_file((process / "status").string()).value_or(""));
  for (std::string line; std::getline(status, line);)
    if ((line.starts_with("SigPnd:") || line.starts_with("ShdPnd:")) &&
        (std::stoull(line.substr(line.find(':') + 1), nullptr, 16) & killed) != 0)
      return Life::dying;
  return fields[state] == "Z" ? Life::dying : Life::running;
}

// A recording left behind, if it is known how many calls it accounts for.
struct LeftFile {
  FileDescriptor descriptor;
  const CountsPosition* position = nullptr;
};

std::optional<LeftFile> find_file(const fs::path& folder, const CountsSlot& slot) {
  const std::string name(slot.file, ::strnlen(slot.file, sizeof slot.file));
  if (slot.state != SlotState::recording || name.empty() || name.find('/') != std::string::npos)
    return std::nullopt;
  LeftFile file{FileDescriptor(
      ::open((folder / name).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK))};
  struct stat status {};
  if (!file.descriptor || ::fstat(file.descriptor.get(), &status) != 0 || !S_ISREG(status.st_mode))
    return std::nullopt;
  for (const CountsPosition& position : slot.positions)
    if (position.bytes != 0 && position.bytes == static_cast<std::uint64_t>(status.st_size))
      file.position = &position;
  if (file.position == nullptr) return std::nullopt;
  return file;
}

// Appends a last record, or nothing: a partial one would look as if the process had been writing
// it.
void append_killed(const LeftFile& file, const LostCalls& lost) {
  const auto payload =
      nlohmann::json::to_cbor({{"record", name(RecordKind::killed)},
                               {"calls", lost.calls},
                               {"replays", lost.replays},
                               {"calls_over_budget", file.position->calls_over_budget.load()}});
  const std::string frame =
      make_frame(std::string_view(reinterpret_cast<const char*>(payload.data()), payload.size()));
  if (::write(file.descriptor.get(), frame.data(), frame.size()) ==
      static_cast<ssize_t>(frame.size()))
    return;
  (void)!::ftruncate(file.descriptor.get(), static_cast<off_t>(file.position->bytes.load()));
}

LostCalls settle_slot(const fs::path& folder, CountsSlot& slot) {
  const auto file = find_file(folder, slot);
  // It is not known how much of a partial write arrived: the reader reports that it was cut off.
  const bool is_half_written =
      !file && slot.state == SlotState::recording &&
      std::max(slot.positions[0].bytes.load(), slot.positions[1].bytes.load()) > 0;
  LostCalls lost;
  if (!is_half_written) {
    const std::uint64_t calls = slot.calls, replays = slot.replays;
    lost.calls = calls - std::min(calls, file ? file->position->calls.load() : 0);
    lost.replays = replays - std::min(replays, file ? file->position->replays.load() : 0);
    lost.processes = lost.calls + lost.replays > 0 ? 1 : 0;
  }
  if (file) append_killed(*file, lost);
  slot.state = SlotState::ended;
  return lost;
}

}  // namespace

std::string describe(const LostCalls& lost) {
  if (lost.processes == 0) return {};
  const auto counted = [](std::uint64_t count, std::string_view one, std::string_view more) {
    return fmt::format("{} {}", with_separators(count), count == 1 ? one : more);
  };
  std::string what = lost.calls > 0 ? counted(lost.calls, "call", "calls") : "";
  if (lost.replays > 0)
    what += (what.empty() ? "" : " and ") +
            counted(lost.replays, "replay of a graph", "replays of graphs");
  return fmt::format("{} made last by {} that did not exit normally (killed, os._exit) {} missing",
                     what, counted(lost.processes, "process", "processes"),
                     lost.calls + lost.replays == 1 ? "is" : "are");
}

std::string why_nothing_recorded(const std::optional<Reach>& reach) {
  constexpr std::string_view pass_on =
      "pass PYTHONPATH and the variables COLLECT_WORKLOADS_RECORD* on to the engine";
  if (!reach)
    return fmt::format(
        "nothing was recorded: no process called FlashInfer or another hooked function. If it "
        "should have, {}",
        pass_on);
  if (reach->processes == 0)
    return fmt::format(
        "nothing was recorded: no Python process loaded the recorder. It is found through "
        "PYTHONPATH, which sudo, containers, Ray and launch scripts may set anew and which "
        "python -I, -S and -E ignore, and needs Python 3.10 or newer: {}",
        pass_on);

  const std::string loaded = reach->processes == 1
                                 ? "the one Python process that loaded the recorder"
                                 : fmt::format("the {} Python processes that loaded the recorder",
                                               with_separators(reach->processes));
  if (reach->flashinfers == 0)
    return fmt::format(
        "nothing was recorded: FlashInfer was not imported by {}. If the engine is another "
        "process, {}; `collect-workloads doctor --python FILE` says what a Python has",
        loaded, pass_on);
  return fmt::format(
      "nothing was recorded: {}{} imported FlashInfer{}{} but called nothing of it that is "
      "recorded. Send the engine traffic; `collect-workloads doctor` says which calls this version "
      "can give. If the recorder switched itself off, its message is on stderr",
      reach->processes == 1 ? "" : fmt::format("{} of ", with_separators(reach->flashinfers)),
      loaded, reach->flashinfer_version.empty() ? "" : " ", reach->flashinfer_version);
}

CallCounts::CallCounts() {
  FileDescriptor file(::memfd_create("collect-workloads", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  constexpr auto size = static_cast<off_t>(sizeof(Counts));
  // Allocate everything up front: a page that cannot be allocated later would kill the engine.
  if (!file || ::fallocate(file.get(), 0, 0, size) != 0) return;
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return;
  void* const memory =
      ::mmap(nullptr, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) return;
  counts_ = new (memory) Counts;
  file_ = std::move(file);
}

CallCounts::~CallCounts() {
  if (counts_ != nullptr) ::munmap(counts_, sizeof(Counts));
}

std::pair<std::string, std::string> CallCounts::environment() const {
  return {counts_variable,
          file_ ? fmt::format("/proc/{}/fd/{}", ::getpid(), file_.get()) : std::string()};
}

std::optional<Reach> CallCounts::reach() const {
  if (counts_ == nullptr) return std::nullopt;
  const CountsHeader& header = counts_->header;
  const std::string_view version(
      header.flashinfer_version,
      ::strnlen(header.flashinfer_version, sizeof header.flashinfer_version));
  return Reach{header.loaded, header.flashinfers, for_terminal(version)};
}

LostCalls CallCounts::settle(const fs::path& folder, std::chrono::milliseconds patience) {
  LostCalls all;
  if (counts_ == nullptr) return all;
  const auto deadline = std::chrono::steady_clock::now() + patience;
  const std::size_t taken = std::min<std::size_t>(counts_->header.taken, counts_slots);
  for (CountsSlot& slot : std::span(counts_->slots).first(taken)) {
    // (A process that is about to take its slot has no number yet.)
    if (slot.process == 0 || slot.state == SlotState::ended) continue;
    Life life = life_of(slot);
    for (; life == Life::dying && std::chrono::steady_clock::now() < deadline; life = life_of(slot))
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (life != Life::over) continue;
    const LostCalls lost = settle_slot(folder, slot);
    all.calls += lost.calls;
    all.replays += lost.replays;
    all.processes += lost.processes;
  }
  return all;
}

}  // namespace cw::recording
