// Sanitizes a dump folder while it is being written, and deletes what it has dealt with.
#pragma once

#include <memory>

#include "capture/level10/follower.h"
#include "pipeline/sanitize.h"

namespace cw {

class Watcher {
 public:
  /// `folder` must exist. With `keeps_dumps` nothing is deleted. The dataset and the bindings must outlive it.
  /// Error codes: those of Sanitizer::begin and of reading the folder.
  static Result<std::unique_ptr<Watcher>> create(const std::filesystem::path& folder, const Dataset& dataset,
                                                 const BindingSet& bindings, SanitizeOptions options, bool keeps_dumps);

  /// Deals with what was completed since the last time.
  Result<void> poll();
  /// The writers have ended: deals with the rest, selects and writes.
  Result<SanitizeOutcome> finish();

  const Sanitizer& sanitizer() const { return *sanitizer_; }
  SanitizeOptions& options() { return options_; }
  const Capture& capture() const { return capture_; }
  /// Calls that have begun and are not complete.
  std::size_t pending() const { return follower_->pending(); }

 private:
  Watcher(level10::DumpCapture capture, SanitizeOptions options)
      : capture_(std::move(capture)), options_(std::move(options)) {}

  level10::DumpCapture capture_;
  SanitizeOptions options_;
  std::optional<level10::Follower> follower_;
  std::optional<Sanitizer> sanitizer_;
};

}  // namespace cw
