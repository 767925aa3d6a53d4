// Sanitizes a dump folder while it is being written, and deletes what it has dealt with.
#pragma once

#include <memory>

#include "capture/level10/follower.h"
#include "pipeline/sanitize.h"

namespace cw {

struct WatchOptions {
  std::filesystem::path folder;      ///< of dumps; must exist
  bool keeps_dumps = false;          ///< nothing is deleted
  std::filesystem::path checkpoint;  ///< a folder for what save() writes; empty: it is not called
};

class Watcher {
 public:
  /// The dataset and the bindings must outlive it. Error codes: those of Sanitizer::begin and of reading the folder.
  static Result<std::unique_ptr<Watcher>> create(const WatchOptions& watched, const Dataset& dataset,
                                                 const BindingSet& bindings, SanitizeOptions options);

  /// Takes what another process left in the folder when it was killed into the checkpoint, and empties the folder.
  /// Error codes: those of reading the folder, of Checkpoint::load and of writing.
  static Result<void> absorb(const WatchOptions& watched, const Dataset& dataset, const BindingSet& bindings,
                             const SanitizeOptions& options);

  /// Goes on from the checkpoint, before the first poll(), and returns what save() was given. Error codes: those of
  /// Checkpoint::load.
  Result<Json> restore() { return sanitizer_->restore(checkpoint_); }
  /// Changes what save() was given. Error codes: those of reading and writing.
  Result<void> mark(const Json& more) { return checkpoint_.mark(more); }
  /// The collection is complete and written: see Checkpoint::conclude().
  Result<void> conclude(const Json& more) { return checkpoint_.conclude(more); }
  /// Writes the checkpoint. Error codes: those of writing.
  Result<void> save(const Json& more) { return sanitizer_->save(checkpoint_, more); }

  /// Deals with what was completed since the last time.
  Result<void> poll();
  /// The writers have ended: deals with the rest.
  Result<void> drain();
  /// Deals with the rest, selects and writes.
  Result<SanitizeOutcome> finish();

  const Sanitizer& sanitizer() const { return *sanitizer_; }
  SanitizeOptions& options() { return options_; }
  const Capture& capture() const { return capture_; }
  /// Calls that have begun and are not complete.
  std::size_t pending() const { return follower_->pending(); }

 private:
  Watcher(level10::DumpCapture capture, SanitizeOptions options, Checkpoint checkpoint)
      : capture_(std::move(capture)), options_(std::move(options)), checkpoint_(std::move(checkpoint)) {}

  level10::DumpCapture capture_;
  SanitizeOptions options_;
  Checkpoint checkpoint_;
  std::optional<level10::Follower> follower_;
  std::optional<Sanitizer> sanitizer_;
};

}  // namespace cw
