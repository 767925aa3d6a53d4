#include "capture/open.h"

#include <algorithm>

#include "capture/level10/follower.h"
#include "capture/recording/recording_capture.h"

namespace cw {
namespace {

using level10::DumpCapture;
using recording::RecordingCapture;

class LiveDumps final : public LiveCapture {
 public:
  LiveDumps(DumpCapture capture, const std::filesystem::path& folder, bool deletes)
      : capture_(std::move(capture)), follower_(folder, capture_, deletes) {}
  const Capture& capture() const override { return capture_; }
  Result<bool> poll(Deadline deadline) override { return follower_.poll(deadline); }
  Result<void> finish() override { return follower_.finish(); }
  std::size_t pending() const override { return follower_.pending(); }
  std::uint64_t disk() const override { return follower_.disk(); }
  void keep_the_rest() override { capture_.keep_the_rest(); }

 private:
  DumpCapture capture_;
  level10::Follower follower_;
};

class LiveRecording final : public LiveCapture {
 public:
  explicit LiveRecording(std::unique_ptr<RecordingCapture> capture)
      : capture_(std::move(capture)) {}
  const Capture& capture() const override { return *capture_; }
  Result<bool> poll(Deadline deadline) override { return capture_->poll(deadline); }
  Result<void> finish() override {
    CW_CHECK(capture_->poll());
    capture_->finish();
    return {};
  }
  std::uint64_t disk() const override { return capture_->disk(); }

 private:
  std::unique_ptr<RecordingCapture> capture_;
};

}  // namespace

CaptureKind kind_of(const std::filesystem::path& path) {
  return RecordingCapture::is_recording(path) ? CaptureKind::recording : CaptureKind::level10;
}

Result<std::unique_ptr<Capture>> open_capture(const std::vector<std::filesystem::path>& roots) {
  std::error_code error;
  for (const std::filesystem::path& root : roots)
    if (!std::filesystem::exists(root, error))
      return fail("not_found", "{}: no such file or folder", root.string());
  const auto is_recording = [](const auto& root) {
    return kind_of(root) == CaptureKind::recording;
  };
  if (std::none_of(roots.begin(), roots.end(), is_recording)) {
    CW_TRY(DumpCapture dumps, DumpCapture::open(roots));
    return std::make_unique<DumpCapture>(std::move(dumps));
  }
  if (!std::all_of(roots.begin(), roots.end(), is_recording))
    return fail("mixed_captures",
                "recordings and level-10 dumps are two captures; give one kind at a time");
  CW_TRY(auto recordings, RecordingCapture::open(roots));
  return recordings;
}

Result<std::unique_ptr<LiveCapture>> follow_capture(const std::filesystem::path& folder,
                                                    CaptureKind kind, bool deletes) {
  if (kind == CaptureKind::recording) {
    CW_TRY(auto recording, RecordingCapture::follow(folder));
    return std::make_unique<LiveRecording>(std::move(recording));
  }
  CW_TRY(DumpCapture dumps, DumpCapture::follow(folder, deletes));
  return std::make_unique<LiveDumps>(std::move(dumps), folder, deletes);
}

}  // namespace cw
