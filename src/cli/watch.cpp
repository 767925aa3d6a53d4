#include "sanitize/watch.h"

#include <cstdio>
#include <thread>

#include "base/console.h"
#include "base/file.h"
#include "base/process.h"
#include "cli/command.h"
#include "cli/errors.h"
#include "cli/shared_options.h"
#include "cli/texts.h"
#include "sanitize/section.h"

namespace cw::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds pause{50};

class WatchCommand final : public Command {
 public:
  std::string name() const override { return "watch"; }
  std::string description() const override { return "Sanitize a capture as it is being written"; }

  void declare(Options& options) override {
    options.value("--input,--dumps", folder_, "Folder of the dumps or recordings")
        .required()
        .meta("DIR");
    add_dataset(options, trace_dir_, "The dataset, with its definitions");
    add_definitions(options, options_.definition_names, options_.op_types);
    add_selection(options, options_);
    options.flag("--keep-dumps", keeps_dumps_, "Do not delete dumps");
    options.value("--until-idle", idle_limit_, "Stop after this many seconds without a call")
        .meta("S");
  }

  int run(const CommonArguments& common) override {
    watch_signals();
    const auto bindings = BindingSet::load(common.bindings);
    if (!bindings) return print_error(bindings.error());
    const auto dataset = Dataset::open(trace_dir_);
    if (!dataset) return print_error(dataset.error());
    ProgressLine progress(common.is_quiet);
    const bool is_talkative = !common.is_quiet && !common.is_json;
    if (const auto begun = wait_for_first_call(progress, is_talkative); !begun)
      return print_error(begun.error());

    // What came first tells what it is.
    const CaptureMethod& method = capture_method_of(folder_);
    std::error_code ignored;
    const bool deletes = !method.is_lasting() && !keeps_dumps_;
    if (deletes && is_talkative && !std::filesystem::is_empty(folder_, ignored)) {
      progress.clear();
      print(stderr, "Dumps are deleted once processed; --keep-dumps keeps them\n");
    }
    options_.slowness = slowness_for_tests();
    auto watcher =
        Watcher::create({folder_, &method, keeps_dumps_, {}}, *dataset, *bindings, options_);
    if (!watcher) return print_error(watcher.error());
    if (const auto followed = follow(**watcher, progress); !followed)
      return print_error(followed.error());
    return finish(**watcher, progress, common, deletes);
  }

 private:
  // Makes the folder where it is not there yet.
  Result<void> wait_for_first_call(ProgressLine& progress, bool is_talkative) const {
    std::error_code ignored;
    const bool is_new = !std::filesystem::exists(folder_, ignored);
    CW_CHECK(make_private_directories(folder_));
    if (is_talkative)
      print(stderr,
            fmt::format("Watching {}{}; press Ctrl-C to stop and write the workloads\n",
                        folder_.string(), is_new ? ", which did not exist and was created" : ""));

    const auto begun = Clock::now();
    const auto is_patient = [&] {
      return idle_limit_ == 0 || Clock::now() - begun < std::chrono::seconds(idle_limit_);
    };
    while (stop_signal() == 0 && is_patient() && std::filesystem::is_empty(folder_, ignored)) {
      progress.update("waiting for the first call");
      std::this_thread::sleep_for(pause);
    }
    return {};
  }

  // Until somebody stops it, or nothing has come for long enough.
  Result<void> follow(Watcher& watcher, ProgressLine& progress) const {
    std::uint64_t calls = 0;
    auto last_call = Clock::now();
    while (stop_signal() == 0) {
      CW_TRY(const Polled polled, watcher.poll(Clock::now() + watch_slice));
      const std::uint64_t now = watcher.sanitizer().calls();
      if (now != calls || watcher.pending() > 0 || !polled.has_taken_all) last_call = Clock::now();
      calls = now;

      std::size_t distinct = 0;
      for (const Progress& definition : watcher.sanitizer().progress())
        distinct += definition.distinct;
      progress.update(fmt::format("{} calls, {} distinct workloads, {} MB on disk",
                                  with_separators(calls), with_separators(distinct),
                                  watcher.disk() / 1'000'000));
      if (idle_limit_ > 0 && Clock::now() - last_call > std::chrono::seconds(idle_limit_)) break;
      std::this_thread::sleep_for(pause);
    }
    return {};
  }

  int finish(Watcher& watcher, ProgressLine& progress, const CommonArguments& common,
             bool deletes) const {
    // finish() tells why what is left cannot be dealt with.
    const auto drained = watcher.drain_in_slices([] { return stop_signal() != 0; }, [] {});
    if (drained && !*drained) {
      progress.clear();
      print(stderr, fmt::format("Not all calls were processed; the rest is in {}: run sanitize on "
                                "it.\n",
                                folder_.string()));
    }
    const auto outcome = watcher.finish();
    progress.clear();
    if (!outcome) return print_error(outcome.error());

    if (common.is_json)
      print_json(section_of(watcher.capture(), *outcome, watcher.options()).to_json());
    else
      print(stdout, describe(*outcome, options_.definition_names) +
                        next_steps(*outcome, {.trace_dir = trace_dir_,
                                              .is_dry_run = options_.is_dry_run,
                                              .is_simulated = outcome->survey.is_simulated,
                                              .capture = deletes ? "" : folder_.string()}));
    return count_kept(*outcome).kept > 0 ? exit_success : exit_no_workloads;
  }

  std::filesystem::path folder_, trace_dir_;
  SanitizeOptions options_;
  bool keeps_dumps_ = false;
  int idle_limit_ = 0;  ///< seconds without a call after which it ends; 0: on Ctrl-C only
};

}  // namespace

std::unique_ptr<Command> make_watch() {
  return std::make_unique<WatchCommand>();
}

}  // namespace cw::cli
