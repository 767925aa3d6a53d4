// The file of a recording, written by a thread of its own so that nobody else waits for the disk.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "counter.h"

namespace cw::recorder {

class RecordingFile {
 public:
  /// Makes `path`, which must not exist, readable by its owner only, and starts the thread. Not
  /// open afterwards when that failed: error() says why. Called on a thread that has left the
  /// engine's table of descriptors (descriptors.h), which the writer's thread then has too: nobody
  /// else can close the file or be given its number. What is written is noted in `counts`, which
  /// may be null.
  RecordingFile(const std::string& path, recording::CountsSlot* counts);
  RecordingFile(const RecordingFile&) = delete;
  RecordingFile& operator=(const RecordingFile&) = delete;
  ~RecordingFile();

  bool is_open() const { return !has_failed_; }
  /// It was not made because something of that name is there.
  bool is_taken() const { return is_taken_; }
  /// What went wrong, for the log; empty when nothing has.
  std::string error() const;

  /// Takes frames to be written in this order; with them, the file stands for `made`. Never waits.
  void append(std::string frames, const Made& made);
  /// Bytes that wait to be written.
  std::size_t backlog() const { return backlog_; }
  /// Waits until all is written, but no longer than this many milliseconds. False when it was not.
  bool drain(unsigned milliseconds);

 private:
  struct Part {
    std::string frames;
    Made made;
  };
  void write_all();
  void announce(const Part& part);
  void fail(const char* what, int code);

  std::string path_;
  recording::CountsSlot* counts_;
  std::uint64_t announced_ = 0;  ///< bytes; the writer's thread's
  unsigned parts_ = 0;
  int file_ = -1;
  bool is_taken_ = false;
  std::atomic<bool> has_failed_{false};
  std::atomic<std::size_t> backlog_{0};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Part> waiting_;  ///< the rest is guarded by mutex_
  std::string error_;
  bool is_ending_ = false;
  std::thread thread_;
};

}  // namespace cw::recorder
