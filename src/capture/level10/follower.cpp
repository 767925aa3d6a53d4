#include "capture/level10/follower.h"

#include <algorithm>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "capture/level10/session.h"

namespace cw::level10 {
namespace {

constexpr std::uint64_t free_every = 256 << 10;
// Calls nest a few levels deep. A call with more than this begun after it in its process will not
// return.
constexpr std::size_t max_nesting = 16;
constexpr std::chrono::seconds patience{20};

}  // namespace

Follower::Follower(std::filesystem::path folder, DumpCapture& capture, Disposal disposal)
    : folder_(std::move(folder)), capture_(capture), frees_(disposal == Disposal::remove) {}

Result<bool> Follower::poll(Deadline deadline) {
  capture_.forget_released();
  CW_TRY(const bool is_all, read_session(deadline));
  give(false);
  return is_all;
}

std::uint64_t Follower::disk() const {
  std::uint64_t bytes = capture_.disk();
  for (const auto& [process, begun] : begun_)
    for (const Begun& call : begun) bytes += disk_usage(folder_ / call.name);
  struct stat status;
  if (session_ && ::fstat(session_.get(), &status) == 0) bytes += bytes_on_disk(status);
  return bytes;
}

Result<bool> Follower::read_session(Deadline deadline) {
  const std::string path = (folder_ / "session.jsonl").string();
  if (!session_) {
    auto opened = frees_ ? open_for_change(AT_FDCWD, path) : open_for_reading(AT_FDCWD, path);
    if (!opened && opened.error().code == "not_found") return true;  // nothing was called yet
    if (!opened) return tl::unexpected(opened.error());
    session_ = std::move(*opened);
  }

  // All complete lines added since.
  CW_TRY(const std::uint64_t size, file_size(session_, path));
  while (offset_ < size && Clock::now() < deadline) {
    const std::size_t kept = rest_.size();
    const std::size_t more = std::min<std::uint64_t>(block_size, size - offset_);
    rest_.resize(kept + more);
    CW_CHECK(read_exactly(session_, offset_, more, rest_.data() + kept, path));
    offset_ += more;
    std::string_view lines = rest_;
    for (std::size_t end = lines.find('\n', kept); end != std::string_view::npos;
         end = lines.find('\n')) {
      take_line(lines.substr(0, end));
      lines.remove_prefix(end + 1);
    }
    rest_.erase(0, rest_.size() - lines.size());
  }

  // Return the space of what was read to the file system.
  if (frees_ && offset_ - freed_ >= free_every) {
    const std::uint64_t whole = offset_ / 4096 * 4096;
    ::fallocate(session_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                static_cast<off_t>(whole));
    freed_ = whole;
  }
  return offset_ >= size;
}

void Follower::take_line(std::string_view line) {
  const auto [name, status] = session_entry(line);
  auto parts = DumpCapture::call_name(name);
  if (!parts) return;
  std::deque<Begun>& begun = begun_[parts->process];
  if (known_.insert(xxh3_64(name)).second) {
    begun.push_back({std::string(name), std::move(parts->function), parts->sequence,
                     status == "completed", status.starts_with("graph_capture"), Clock::now()});
    ++pending_;
    return;
  }
  if (status != "completed") return;
  const auto found = std::find_if(begun.rbegin(), begun.rend(),
                                  [name = name](const Begun& b) { return b.name == name; });
  if (found != begun.rend()) found->is_complete = true;
}

void Follower::give(bool all) {
  const auto now = Clock::now();
  for (auto& [process, begun] : begun_)
    while (!begun.empty() && (all || begun.front().is_complete || begun.size() > max_nesting ||
                              now - begun.front().since > patience)) {
      const Begun& call = begun.front();
      give(begun, call);
      // When dumps are deleted, what remains of the folder at the end tells which calls were
      // processed.
      if (frees_ && call.is_complete && !call.is_captured) known_.erase(xxh3_64(call.name));
      begun.pop_front();
      --pending_;
    }
}

// If more has been read already, it is known whether the function's next call was kept; otherwise
// that is counted later.
void Follower::give(const std::deque<Begun>& begun, const Begun& call) {
  const auto parts = DumpCapture::call_name(call.name);
  Numbers& numbers = numbers_[{parts->process, parts->function}];
  std::error_code error;
  const bool is_there = std::filesystem::is_directory(folder_ / call.name, error);
  if (numbers.given == 0 && is_there) numbers.first = call.sequence;
  if (numbers.given > 0 || is_there) numbers.last = std::max(numbers.last, call.sequence);
  if (!is_there) {
    ++numbers.absent;
    return;
  }
  ++numbers.given;
  const auto next = std::ranges::find_if(begun, [&](const Begun& b) {
    return &b != &call && b.function == call.function && b.sequence > call.sequence;
  });
  const bool is_next_missing =
      next != begun.end() && (next->sequence > call.sequence + 1 ||
                              !std::filesystem::is_directory(folder_ / next->name, error));
  capture_.append(call.name, is_next_missing);
}

std::uint64_t disk_of_foreign_files(const std::filesystem::path& folder) {
  std::uint64_t bytes = 0;
  (void)visit_directory(folder, [&](std::string_view name, bool is_directory) {
    if (name == "session.jsonl" || (is_directory && DumpCapture::process_of(name))) return;
    struct stat status;
    if (::lstat((folder / name).c_str(), &status) == 0) bytes += bytes_on_disk(status);
    if (is_directory) bytes += disk_usage(folder / name);
  });
  return bytes;
}

Result<void> Follower::finish() {
  capture_.forget_released();
  CW_CHECK(read_session(Deadline::max()));
  give(true);
  capture_.visit_names([this](const std::string& name) { known_.insert(xxh3_64(name)); });

  // Folders whose lines were never written, or garbled by other processes' lines.
  std::vector<std::string> names;
  CW_CHECK(visit_directory(folder_, [&](std::string_view name, bool is_directory) {
    if (is_directory && DumpCapture::process_of(name) && !known_.contains(xxh3_64(name)))
      names.emplace_back(name);
  }));
  std::ranges::sort(names);
  for (const std::string& name : names) {
    known_.insert(xxh3_64(name));
    const auto parts = DumpCapture::call_name(name);
    Numbers& numbers = numbers_[{parts->process, parts->function}];
    if (numbers.given == 0) numbers.first = parts->sequence;
    numbers.last = std::max(numbers.last, parts->sequence);
    ++numbers.given;
    capture_.append(name);
  }
  std::uint64_t missing = 0;
  for (const auto& [function, numbers] : numbers_)
    if (numbers.given == 0)
      missing += numbers.absent;
    else
      missing += numbers.last - numbers.first + 1 -
                 std::min<std::uint64_t>(numbers.given, numbers.last - numbers.first + 1);
  capture_.note_missing(missing);
  return {};
}

}  // namespace cw::level10
