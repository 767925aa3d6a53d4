// Sanitizes a capture while it is being written; deletes dumps once processed.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "capture/method.h"
#include "sanitize/sanitize.h"

namespace cw {

struct WatchOptions {
  std::filesystem::path folder;           ///< of dumps or recordings; must exist
  const CaptureMethod* method = nullptr;  ///< the method of that capture
  bool keeps_dumps = false;               ///< dumps are not deleted
  std::filesystem::path checkpoint;       ///< folder for save(); empty: save() is never called
};

/// How long calls are processed before budgets, signals and progress are checked. Overruns are
/// limited to the time of a few calls.
inline constexpr std::chrono::milliseconds watch_slice{100};

/// The outcome of a slice of watching.
struct Polled {
  bool has_read_all = true;   ///< everything in the folder was read
  bool has_taken_all = true;  ///< and processed
};

class Watcher {
 public:
  /// The dataset and the bindings must outlive it. Error codes: those of Sanitizer::begin and of
  /// reading the folder.
  static Result<std::unique_ptr<Watcher>> create(const WatchOptions& watched,
                                                 const Dataset& dataset, const BindingSet& bindings,
                                                 SanitizeOptions options);

  /// Adds what another process left in the folder when it was killed to the checkpoint, and empties
  /// the folder. Error codes: those of reading the folder, of Checkpoint::load and of
  /// writing.
  static Result<void> absorb(const WatchOptions& watched, const Dataset& dataset,
                             const BindingSet& bindings, const SanitizeOptions& options);

  /// Resumes from the checkpoint, before the first poll(), and returns what was passed to save().
  /// For a recording, nothing else is restored: it still exists in full and is read again. Error
  /// codes: those of Checkpoint::load.
  Result<Json> restore();
  /// Changes what was passed to save(). Error codes: those of reading and writing.
  Result<void> mark(const Json& more) { return checkpoint_.mark(more); }
  /// The collection is complete and written: see Checkpoint::conclude().
  Result<void> conclude(const Json& more) { return checkpoint_.conclude(more); }
  /// Writes the checkpoint. Error codes: those of writing.
  Result<void> save(const Json& more) { return sanitizer_->save(checkpoint_, more); }

  /// Processes what was completed since the last time, until `deadline`; may overrun by the time of
  /// one call and of listing the folder.
  Result<Polled> poll(Deadline deadline = Deadline::max());
  /// Sets whether the engine is starting: calls processed meanwhile are not traffic.
  void set_starting(bool is_starting);
  /// The writers have exited: processes the rest, likewise.
  Result<Polled> drain(Deadline deadline = Deadline::max());
  /// The same to the end, with `pause` between slices. Once `is_interrupted`, for at most a second
  /// in total: Ctrl-C must not have to wait for a backlog. False: not everything was processed, and
  /// keep_the_rest() was called.
  Result<bool> drain_in_slices(const std::function<bool()>& is_interrupted,
                               const std::function<void()>& pause);
  /// From now on nothing is deleted: what was not processed is left for another process.
  void keep_the_rest();
  /// Processes the rest, unless that is kept; selects and writes.
  Result<SanitizeOutcome> finish();

  const Sanitizer& sanitizer() const { return *sanitizer_; }
  SanitizeOptions& options() { return options_; }
  Capture& capture() { return live_->capture(); }
  /// Calls that have begun and are not complete.
  std::size_t pending() const { return live_->pending(); }
  /// Disk usage of the capture in bytes, as of the last poll().
  std::uint64_t disk() const { return live_->disk(); }
  /// Disk usage in bytes of other files there that belong to no call.
  std::uint64_t foreign_disk() const { return live_->foreign_disk(); }

 private:
  Watcher(std::unique_ptr<LiveCapture> live, WatchOptions watched, SanitizeOptions options)
      : live_(std::move(live)),
        watched_(std::move(watched)),
        options_(std::move(options)),
        checkpoint_(watched_.checkpoint) {}

  std::unique_ptr<LiveCapture> live_;
  WatchOptions watched_;
  SanitizeOptions options_;
  Checkpoint checkpoint_;
  std::optional<Sanitizer> sanitizer_;
  bool is_finished_ = false;  ///< the writers have exited
  bool keeps_rest_ = false;
};

}  // namespace cw
