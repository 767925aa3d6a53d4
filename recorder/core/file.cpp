#include "file.h"

#include <cerrno>
#include <chrono>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "quiet_thread.h"

namespace cw::recorder {
namespace {

// For descriptors: above the standard streams and what libraries open.
constexpr int first_number = 100;

}  // namespace

RecordingFile::RecordingFile(const std::string& path, recording::CountsSlot* counts)
    : path_(path), counts_(counts) {
  const int opened =
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

  // Code that writes to a standard stream on these threads must not hit the recording.
  if (opened >= 0) file_ = ::fcntl(opened, F_DUPFD_CLOEXEC, first_number);
  if (opened >= 0 && file_ < 0 && errno == EINVAL)  // above the process's limit
    file_ = ::fcntl(opened, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  const int error = errno;
  is_taken_ = opened < 0 && error == EEXIST;
  if (opened >= 0) ::close(opened);
  if (file_ < 0) {
    fail("cannot create", error);
    return;
  }
  ::fchmod(file_, 0600);  // whatever the engine's umask is
  const std::string name = path.substr(path.rfind('/') + 1);
  if (counts_ != nullptr && name.size() < sizeof counts_->file) {
    std::memcpy(counts_->file, name.c_str(), name.size() + 1);
    counts_->state = recording::SlotState::recording;
  }

  // Closed by the thread that has it open: the destroying thread may have another table, with
  // something else under that number.
  thread_ = quiet_thread([this] {
    write_all();
    // Not close(): ThreadSanitizer takes equal numbers for one descriptor, whichever the table.
    ::syscall(SYS_close, file_);
  });
}

RecordingFile::~RecordingFile() {
  {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::string RecordingFile::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

void RecordingFile::fail(const char* what, int code) {
  {
    const std::lock_guard lock(mutex_);
    error_ = std::string(what) + " " + path_ + ": " + std::strerror(code);
    waiting_.clear();
    backlog_ = 0;
  }
  has_failed_ = true;
  changed_.notify_all();
}

void RecordingFile::append(std::string frames, const Made& made) {
  if (frames.empty() || has_failed_) return;
  {
    const std::lock_guard lock(mutex_);
    backlog_ += frames.size();
    waiting_.push_back({std::move(frames), made});
  }
  changed_.notify_all();
}

bool RecordingFile::drain(unsigned milliseconds) {
  // Polled: a timed wait on a condition needs a newer C library than engines have
  // (pthread_cond_clockwait, glibc 2.30), or would go by the clock that can be set.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  while (backlog_ > 0 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return backlog_ == 0;
}

void RecordingFile::write_all() {
  for (;;) {
    Part part;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return is_ending_ || !waiting_.empty(); });
      if (waiting_.empty() || has_failed_) return;
      part = std::move(waiting_.front());
      waiting_.pop_front();
    }

    // Announce what the file will account for before writing it.
    announce(part);
    const std::string& frames = part.frames;
    for (std::size_t done = 0; done < frames.size();) {
      const ssize_t count = ::write(file_, frames.data() + done, frames.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return fail("cannot write", errno);
      done += static_cast<std::size_t>(count);
    }

    // Wake those who wait for room, or for the end.
    {
      const std::lock_guard lock(mutex_);
      backlog_ -= std::min<std::size_t>(backlog_, frames.size());
    }
    changed_.notify_all();
  }
}

// Publishes what the file will account for, to be read after a kill.
void RecordingFile::announce(const Part& part) {
  announced_ += part.frames.size();
  if (counts_ == nullptr) return;
  recording::CountsPosition& position = counts_->positions[parts_++ % 2];
  position.bytes = 0;  // none while half written
  position.calls = part.made.calls;
  position.replays = part.made.replays;
  position.calls_over_budget = part.made.calls_over_budget;
  position.bytes = announced_;
}

}  // namespace cw::recorder
