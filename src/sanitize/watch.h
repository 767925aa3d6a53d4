// Sanitizes a capture while it is being written; of dumps, deletes what it has dealt with.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "capture/method.h"
#include "sanitize/sanitize.h"

namespace cw {

struct WatchOptions {
  std::filesystem::path folder;           ///< of dumps or recordings; must exist
  const CaptureMethod* method = nullptr;  ///< that is followed
  bool keeps_dumps = false;               ///< no dump is deleted
  std::filesystem::path checkpoint;  ///< a folder for what save() writes; empty: it is not called
};

/// How long calls are dealt with until budgets, signals and progress are looked at. What goes
/// beyond it is the time of a few calls.
inline constexpr std::chrono::milliseconds watch_slice{100};

/// What a slice of watching came to.
struct Polled {
  bool has_read_all = true;   ///< all that the folder tells of
  bool has_taken_all = true;  ///< and dealt with it
};

class Watcher {
 public:
  /// The dataset and the bindings must outlive it. Error codes: those of Sanitizer::begin and of
  /// reading the folder.
  static Result<std::unique_ptr<Watcher>> create(const WatchOptions& watched,
                                                 const Dataset& dataset, const BindingSet& bindings,
                                                 SanitizeOptions options);

  /// Takes what another process left in the folder when it was killed into the checkpoint, and
  /// empties the folder. Error codes: those of reading the folder, of Checkpoint::load and of
  /// writing.
  static Result<void> absorb(const WatchOptions& watched, const Dataset& dataset,
                             const BindingSet& bindings, const SanitizeOptions& options);

  /// Goes on from the checkpoint, before the first poll(), and returns what save() was given. Error
  /// codes: those of Checkpoint::load. Of a recording only what save() was given counts: all of it
  /// is still there and is read again.
  Result<Json> restore();
  /// Changes what save() was given. Error codes: those of reading and writing.
  Result<void> mark(const Json& more) { return checkpoint_.mark(more); }
  /// The collection is complete and written: see Checkpoint::conclude().
  Result<void> conclude(const Json& more) { return checkpoint_.conclude(more); }
  /// Writes the checkpoint. Error codes: those of writing.
  Result<void> save(const Json& more) { return sanitizer_->save(checkpoint_, more); }

  /// Deals with what was completed since the last time, until `deadline`: what one call and the
  /// folder's listing take may come on top.
  Result<Polled> poll(Deadline deadline = Deadline::max());
  /// Whether the engine is starting: calls that are dealt with meanwhile are no traffic.
  void set_starting(bool is_starting);
  /// The writers have ended: deals with the rest, likewise.
  Result<Polled> drain(Deadline deadline = Deadline::max());
  /// The same to the end, with `pause` between slices. Once `is_interrupted`, for a second in all
  /// at most: who has pressed Ctrl-C does not wait for a backlog. False: not all was dealt with,
  /// and keep_the_rest() was called.
  Result<bool> drain_in_slices(const std::function<bool()>& is_interrupted,
                               const std::function<void()>& pause);
  /// From now on nothing is deleted: what was not dealt with is for another process.
  void keep_the_rest();
  /// Deals with the rest, unless that is kept; selects and writes.
  Result<SanitizeOutcome> finish();

  const Sanitizer& sanitizer() const { return *sanitizer_; }
  SanitizeOptions& options() { return options_; }
  const Capture& capture() const { return live_->capture(); }
  /// Calls that have begun and are not complete.
  std::size_t pending() const { return live_->pending(); }
  /// Bytes of the capture on the disk, as far as poll() has come.
  std::uint64_t disk() const { return live_->disk(); }
  /// Bytes beside it that are no call's.
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
  bool is_finished_ = false;  ///< nothing is written any more
  bool keeps_rest_ = false;
};

}  // namespace cw
