#include "pipeline/watch.h"

namespace cw {

Result<std::unique_ptr<Watcher>> Watcher::create(const std::filesystem::path& folder, const Dataset& dataset,
                                                 const BindingSet& bindings, SanitizeOptions options,
                                                 bool keeps_dumps) {
  CW_TRY(auto capture, level10::DumpCapture::follow(folder, !keeps_dumps));
  std::unique_ptr<Watcher> watcher(new Watcher(std::move(capture), std::move(options)));
  watcher->follower_.emplace(folder, watcher->capture_, !keeps_dumps);
  CW_TRY(auto sanitizer, Sanitizer::begin(watcher->capture_, dataset, bindings, watcher->options_,
                                          Sanitizer::Source::vanishing));
  watcher->sanitizer_.emplace(std::move(sanitizer));
  return watcher;
}

Result<void> Watcher::poll() {
  CW_CHECK(follower_->poll());
  sanitizer_->advance();
  return {};
}

Result<SanitizeOutcome> Watcher::finish() {
  CW_CHECK(follower_->finish());
  return sanitizer_->finish();
}

}  // namespace cw
