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

// Of descriptors: above the standard streams and what libraries open.
constexpr int first_number = 100;

}  // namespace

RecordingFile::RecordingFile(const std::string& path, recording::CountsSlot* counts)
    : path_(path), counts_(counts) {
  const int opened =
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

  // Whoever writes to a standard stream on these threads must not find the recording there.
  if (opened >= 0) file_ = ::fcntl(opened, F_DUPFD_CLOEXEC, first_number);
  if (opened >= 0 && file_ < 0 && errno == EINVAL)  // past what the process may have
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

  // Closed where it is open: whoever destroys this may have another table, and something else of
  // that number in it.
  thread_ = quiet_thread([this] {
    write_all();
    // Not close(): ThreadSanitizer takes equal numbers for one descriptor, in whichever table.
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
  // Looked at now and then: waiting for a condition until some time needs a newer C library than
  // engines have (pthread_cond_clockwait, glibc 2.30), and would be by the clock that may be set.
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

    // What the file will stand for is announced before it is written.
    announce(part);
    const std::string& frames = part.frames;
    for (std::size_t done = 0; done < frames.size();) {
      const ssize_t count = ::write(file_, frames.data() + done, frames.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return fail("cannot write", errno);
      done += static_cast<std::size_t>(count);
    }

    // Whoever waits for room or for the end looks again.
    {
      const std::lock_guard lock(mutex_);
      backlog_ -= std::min<std::size_t>(backlog_, frames.size());
    }
    changed_.notify_all();
  }
}

// What the file will stand for, for whoever asks after a kill.
void RecordingFile::announce(const Part& part) {
  announced_ += part.frames.size();
  if (counts_ == nullptr) return;
  recording::CountsPosition& position = counts_->positions[parts_++ % 2];
  position.bytes = 0;  // none while it is half written
  position.calls = part.made.calls;
  position.replays = part.made.replays;
  position.calls_over_budget = part.made.calls_over_budget;
  position.bytes = announced_;
}

}  // namespace cw::recorder
