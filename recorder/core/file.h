// A recording's file, written by a dedicated thread so that nothing else waits for the disk.
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
  /// Creates `path`, which must not exist, readable by its owner only, and starts the thread. If
  /// that fails, is_open() is false and error() says why. Called on a thread that has left the
  /// engine's descriptor table (descriptors.h); the writer thread inherits the private table, so
  /// nobody else can close the file or be given its number. What is written is noted in `counts`,
  /// which may be null.
  RecordingFile(const std::string& path, recording::CountsSlot* counts);
  RecordingFile(const RecordingFile&) = delete;
  RecordingFile& operator=(const RecordingFile&) = delete;
  ~RecordingFile();

  bool is_open() const { return !has_failed_; }
  /// Whether it was not created because something of that name exists.
  bool is_taken() const { return is_taken_; }
  /// What went wrong, for the log; empty if nothing has.
  std::string error() const;

  /// Queues frames to be written in order; with them, the file accounts for `made`. Never blocks.
  void append(std::string frames, const Made& made);
  /// Bytes waiting to be written.
  std::size_t backlog() const { return backlog_; }
  /// Waits until everything is written, for at most `milliseconds`. False on a timeout.
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
  std::uint64_t announced_ = 0;  ///< bytes; writer thread only
  unsigned parts_ = 0;
  int file_ = -1;
  bool is_taken_ = false;
  std::atomic<bool> has_failed_{false};
  std::atomic<std::size_t> backlog_{0};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Part> waiting_;  ///< from here on: guarded by mutex_
  std::string error_;
  bool is_ending_ = false;
  std::thread thread_;
};

}  // namespace cw::recorder
