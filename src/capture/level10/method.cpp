#include "capture/level10/method.h"

#include "capture/level10/follower.h"

namespace cw::level10 {
namespace {

class LiveDumps final : public LiveCapture {
 public:
  LiveDumps(DumpCapture capture, const std::filesystem::path& folder, Disposal disposal)
      : folder_(folder), capture_(std::move(capture)), follower_(folder, capture_, disposal) {}

  Capture& capture() override { return capture_; }
  Result<bool> poll(Deadline deadline) override { return follower_.poll(deadline); }
  Result<void> finish() override { return follower_.finish(); }
  std::size_t pending() const override { return follower_.pending(); }
  void keep_the_rest() override { capture_.keep_the_rest(); }
  std::uint64_t disk() const override { return follower_.disk(); }
  std::uint64_t foreign_disk() const override { return disk_of_foreign_files(folder_); }

 private:
  const std::filesystem::path folder_;
  DumpCapture capture_;
  Follower follower_;
};

class DumpMethod final : public CaptureMethod {
 public:
  std::string_view name() const override { return "level10"; }
  std::string_view product() const override { return "level-10 dumps"; }

  Result<Variables> environment(const std::filesystem::path& folder, const CaptureNeeds& needs,
                                const CaptureOptions& options) const override {
    // Both limits count what was ever written, so the usual ones are out of reach.
    constexpr std::uint64_t usual_count = 1'000'000'000, usual_size_gb = 1'000'000;
    return Variables{
        {"FLASHINFER_LOGLEVEL", "10"},
        {"FLASHINFER_LOGDEST", "/dev/null"},  // it would grow with every call
        {"FLASHINFER_DUMP_DIR", folder.string()},
        {"FLASHINFER_DUMP_SAFETENSORS", "1"},
        {"FLASHINFER_DUMP_INCLUDE", fmt::format("{}", fmt::join(include(needs, options), ","))},
        {"FLASHINFER_DUMP_EXCLUDE", fmt::format("{}", fmt::join(exclude(options), ","))},
        {"FLASHINFER_DUMP_MAX_COUNT", std::to_string(options.max_count.value_or(usual_count))},
        {"FLASHINFER_DUMP_MAX_SIZE_GB",
         std::to_string(options.max_size_gb.value_or(usual_size_gb))}};
  }

  std::string_view usual_folder() const override { return "flashinfer-dumps"; }

  std::string summary(const CaptureNeeds& needs, const CaptureOptions& options) const override {
    return fmt::format("FLASHINFER_DUMP_INCLUDE={}", fmt::join(include(needs, options), ","));
  }

  Json provenance(const CaptureNeeds& needs, const CaptureOptions& options) const override {
    return {{"dump_include", include(needs, options)}, {"dump_exclude", exclude(options)}};
  }

  bool recognizes(const std::filesystem::path&) const override { return false; }  // the last resort

  Result<std::unique_ptr<Capture>> open(
      const std::vector<std::filesystem::path>& roots) const override {
    CW_TRY(DumpCapture dumps, DumpCapture::open(roots));
    return std::make_unique<DumpCapture>(std::move(dumps));
  }

  Result<std::unique_ptr<LiveCapture>> follow(const std::filesystem::path& folder,
                                              Disposal disposal) const override {
    CW_TRY(DumpCapture dumps, DumpCapture::follow(folder, disposal));
    return std::make_unique<LiveDumps>(std::move(dumps), folder, disposal);
  }

  bool is_bounded() const override { return false; }
  bool is_lasting() const override { return false; }

 private:
  static std::vector<std::string> include(const CaptureNeeds& needs,
                                          const CaptureOptions& options) {
    return options.include.empty() ? dump_patterns(needs) : options.include;
  }

  static std::vector<std::string> exclude(const CaptureOptions& options) {
    std::vector<std::string> patterns{"*.__init__"};  // they dump whole workspaces
    patterns.insert(patterns.end(), options.exclude.begin(), options.exclude.end());
    return patterns;
  }
};

}  // namespace

std::vector<std::string> dump_patterns(const CaptureNeeds& needs) {
  // Methods get a wildcard on both sides: CUDA graph variants subclass the wrappers, and older
  // versions have run_return_lse. Functions match exactly: gemma_rmsnorm is a different one.
  std::set<std::string> patterns;
  for (const auto* functions :
       {&needs.calls, &needs.plans, &needs.neighbours, &needs.neighbour_plans})
    for (const std::string& function : *functions)
      patterns.insert(function.find('.') == std::string::npos ? function : "*" + function + "*");
  return {patterns.begin(), patterns.end()};
}

const CaptureMethod& dump_method() {
  static const DumpMethod method;
  return method;
}

}  // namespace cw::level10
