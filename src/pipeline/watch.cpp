#include "pipeline/watch.h"

#include "base/file.h"

namespace cw {

Result<std::unique_ptr<Watcher>> Watcher::create(const WatchOptions& watched, const Dataset& dataset,
                                                 const BindingSet& bindings, SanitizeOptions options) {
  CW_TRY(auto capture, level10::DumpCapture::follow(watched.folder, !watched.keeps_dumps));
  std::unique_ptr<Watcher> watcher(new Watcher(std::move(capture), std::move(options), Checkpoint(watched.checkpoint)));
  watcher->follower_.emplace(watched.folder, watcher->capture_, !watched.keeps_dumps);
  CW_TRY(auto sanitizer, Sanitizer::begin(watcher->capture_, dataset, bindings, watcher->options_,
                                          Sanitizer::Source::vanishing));
  watcher->sanitizer_.emplace(std::move(sanitizer));
  return watcher;
}

// By the names, as a folder that nobody writes any more: its session.jsonl also tells of calls that are deleted.
Result<void> Watcher::absorb(const WatchOptions& watched, const Dataset& dataset, const BindingSet& bindings,
                             const SanitizeOptions& options) {
  const auto capture = level10::DumpCapture::open({watched.folder});
  if (!capture && capture.error().code != "no_dumps") return tl::unexpected(capture.error());
  if (capture) {
    CW_TRY(Sanitizer sanitizer, Sanitizer::begin(*capture, dataset, bindings, options, Sanitizer::Source::vanishing));
    Checkpoint checkpoint(watched.checkpoint);
    auto more = sanitizer.restore(checkpoint);
    if (!more && more.error().code != "not_found") return tl::unexpected(more.error());
    sanitizer.advance();
    CW_CHECK(sanitizer.save(checkpoint, more.value_or(Json::object())));
  }
  std::error_code error;
  std::filesystem::remove_all(watched.folder, error);
  return make_directories(watched.folder);
}

Result<void> Watcher::poll() {
  CW_CHECK(follower_->poll());
  sanitizer_->advance();
  return {};
}

Result<void> Watcher::drain() {
  CW_CHECK(follower_->finish());
  sanitizer_->advance();
  return {};
}

Result<SanitizeOutcome> Watcher::finish() {
  const auto drained = drain();  // what was dealt with before counts all the same
  auto outcome = sanitizer_->finish();
  if (outcome && !drained) outcome->survey.tally.add_defect("unreadable_folder", drained.error().message);
  return outcome;
}

}  // namespace cw
