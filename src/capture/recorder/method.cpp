#include "capture/recorder/method.h"

#include "capture/recorder/bundle.h"
#include "capture/recorder/lost.h"
#include "capture/recorder/recording_capture.h"

namespace cw::recording {
namespace {

class LiveRecording final : public LiveCapture {
 public:
  explicit LiveRecording(std::unique_ptr<RecordingCapture> capture)
      : capture_(std::move(capture)) {}

  Capture& capture() override { return *capture_; }
  Result<bool> poll(Deadline) override {
    CW_CHECK(capture_->look());
    return true;
  }
  Result<void> finish() override {
    capture_->finish();
    return capture_->look();
  }
  std::uint64_t disk() const override { return capture_->disk(); }

 private:
  std::unique_ptr<RecordingCapture> capture_;
};

class RecorderMethod final : public CaptureMethod {
 public:
  std::string_view name() const override { return "recorder"; }
  std::string_view product() const override { return "recordings"; }

  Result<std::string> rules(const CaptureOptions& options) const override {
    return read_recorder_rules(options.recorder_rules);
  }

  Result<Variables> environment(const std::filesystem::path& folder, const CaptureNeeds& needs,
                                const CaptureOptions& options) const override {
    CW_TRY(const std::string text, rules(options));
    CW_TRY(const Json config, recorder_config(needs, text).map_error([&](Error error) {
      if (!options.recorder_rules.empty())
        error.message =
            fmt::format("{}: {}; start from a copy of data/recorder.yaml, which this file replaces",
                        options.recorder_rules.string(), error.message);
      return error;
    }));

    const auto bundle = unpack_bundle(config);
    const bool is_cache_unusable =
        !bundle && (bundle.error().code == "unwritable" || bundle.error().code == "not_private");
    if (is_cache_unusable) return fail("cache_unusable", "{}", bundle.error().message);
    if (!bundle) return tl::unexpected(bundle.error());
    return bundle_environment(*bundle, folder, options);
  }

  std::string_view usual_folder() const override { return "recording"; }

  std::string summary(const CaptureNeeds&, const CaptureOptions&) const override {
    return "with the recorder in it";
  }

  std::string why_nothing(const std::optional<Reach>& reach) const override {
    return why_nothing_recorded(reach);
  }

  bool recognizes(const std::filesystem::path& path) const override {
    return RecordingCapture::is_recording(path);
  }

  Result<std::unique_ptr<Capture>> open(
      const std::vector<std::filesystem::path>& roots) const override {
    CW_TRY(auto recordings, RecordingCapture::open(roots));
    return recordings;
  }

  Result<std::unique_ptr<LiveCapture>> follow(const std::filesystem::path& folder,
                                              Disposal) const override {
    CW_TRY(auto recording, RecordingCapture::follow(folder));
    return std::make_unique<LiveRecording>(std::move(recording));
  }

  bool is_bounded() const override { return true; }
  bool is_lasting() const override { return true; }
};

}  // namespace

const CaptureMethod& recorder_method() {
  static const RecorderMethod method;
  return method;
}

}  // namespace cw::recording
