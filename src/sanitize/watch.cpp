#include "sanitize/watch.h"

#include "base/file.h"
#include "base/json.h"

namespace cw {

Result<std::unique_ptr<Watcher>> Watcher::create(const WatchOptions& watched,
                                                 const Dataset& dataset, const BindingSet& bindings,
                                                 SanitizeOptions options) {
  CW_TRY(auto live, watched.method->follow(
                        watched.folder, watched.keeps_dumps ? Disposal::keep : Disposal::remove));
  std::unique_ptr<Watcher> watcher(new Watcher(std::move(live), watched, std::move(options)));
  CW_TRY(auto sanitizer, Sanitizer::begin(watcher->capture(), dataset, bindings, watcher->options_,
                                          Sanitizer::Source::vanishing));
  watcher->sanitizer_.emplace(std::move(sanitizer));
  return watcher;
}

// Read by name, as a folder that is no longer written to: its session.jsonl also lists deleted
// calls.
Result<void> Watcher::absorb(const WatchOptions& watched, const Dataset& dataset,
                             const BindingSet& bindings, const SanitizeOptions& options) {
  const auto capture = open_capture({watched.folder});
  if (!capture && capture.error().code != "no_dumps") return tl::unexpected(capture.error());
  if (capture) {
    CW_TRY(Sanitizer sanitizer,
           Sanitizer::begin(**capture, dataset, bindings, options, Sanitizer::Source::vanishing));
    Checkpoint checkpoint(watched.checkpoint);
    auto known = sanitizer.restore(checkpoint);
    if (!known && known.error().code != "not_found") return tl::unexpected(known.error());
    Json more = known.value_or(Json::object());
    if (string_member(more, "absorbed") != (*capture)->id()) {  // otherwise we were killed below
      sanitizer.advance();
      more["absorbed"] = (*capture)->id();
      CW_CHECK(sanitizer.save(checkpoint, more));
    }
  }

  // Moved away in one step: a half-deleted folder would be another capture.
  std::error_code error;
  const std::filesystem::path done = watched.folder.string() + ".absorbed";
  std::filesystem::remove_all(done, error);
  std::filesystem::rename(watched.folder, done, error);
  std::filesystem::remove_all(error ? watched.folder : done, error);
  return make_private_directories(watched.folder);
}

Result<Json> Watcher::restore() {
  if (!watched_.method->is_lasting()) return sanitizer_->restore(checkpoint_);
  Json more = Checkpoint::more_of(watched_.checkpoint);
  if (more.is_null()) return fail("not_found", "no checkpoint in {}", watched_.checkpoint.string());
  return more;
}

Result<Polled> Watcher::poll(Deadline deadline) {
  CW_TRY(const bool has_read_all, live_->poll(deadline));
  return Polled{has_read_all, sanitizer_->advance(deadline)};
}

Result<Polled> Watcher::drain(Deadline deadline) {
  if (!std::exchange(is_finished_, true)) CW_CHECK(live_->finish());
  return Polled{true, sanitizer_->advance(deadline)};
}

Result<bool> Watcher::drain_in_slices(const std::function<bool()>& is_interrupted,
                                      const std::function<void()>& pause) {
  constexpr std::chrono::seconds patience{1};  // of a user who has interrupted it
  const auto end = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const bool is_last = is_interrupted();
    if (is_last && std::chrono::steady_clock::now() >= end) {
      keep_the_rest();
      return false;
    }
    // drain() first reads everything, however much that is.
    CW_TRY(const Polled dealt, is_last ? poll(std::chrono::steady_clock::now() + watch_slice)
                                       : drain(std::chrono::steady_clock::now() + watch_slice));
    if (dealt.has_read_all && dealt.has_taken_all) return true;
    pause();
  }
}

void Watcher::set_starting(bool is_starting) {
  sanitizer_->set_starting(is_starting);
}

void Watcher::keep_the_rest() {
  keeps_rest_ = true;
  live_->keep_the_rest();
}

Result<SanitizeOutcome> Watcher::finish() {
  const auto drained =
      keeps_rest_ ? Result<Polled>(Polled{}) : drain();  // what was processed before still counts
  auto outcome = sanitizer_->finish();
  if (outcome && !drained)
    outcome->survey.tally.add_defect("unreadable_folder", drained.error().message);
  return outcome;
}

}  // namespace cw
