#include <cstdio>
#include <thread>

#include "base/console.h"
#include "base/file.h"
#include "cli/commands.h"
#include "sanitize/section.h"

namespace cw::cli {
int run_watch(const WatchArguments& arguments, const CommonArguments& common) {
  watch_signals();
  const auto bindings = load_bindings(common);
  if (!bindings) return report(bindings.error());
  const auto dataset = Dataset::open(arguments.trace_dir);
  if (!dataset) return report(dataset.error());
  std::error_code ignored;
  const bool is_new = !std::filesystem::exists(arguments.dumps, ignored);
  if (const auto made = make_private_directories(arguments.dumps); !made)
    return report(made.error());
  ProgressLine progress(common.is_quiet);
  if (!common.is_quiet && !common.is_json)
    print(stderr,
          fmt::format("Watching {}{}; Ctrl-C ends it and writes the workloads\n",
                      arguments.dumps.string(), is_new ? ", which was not there and is made" : ""));
  // What comes first tells what it will be.
  const auto begun = std::chrono::steady_clock::now();
  const auto is_patient = [&] {
    return arguments.idle_limit == 0 ||
           std::chrono::steady_clock::now() - begun < std::chrono::seconds(arguments.idle_limit);
  };
  while (stop_signal() == 0 && is_patient() &&
         std::filesystem::is_empty(arguments.dumps, ignored)) {
    progress.update("waiting for the first call");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  const CaptureKind kind = kind_of(arguments.dumps);
  if (kind == CaptureKind::level10 && !arguments.keeps_dumps && !common.is_quiet &&
      !common.is_json && !std::filesystem::is_empty(arguments.dumps, ignored)) {
    progress.clear();
    print(stderr, "Dumps are deleted as they are dealt with; --keep-dumps keeps them\n");
  }
  SanitizeOptions options = arguments.options;
  options.slowness = slowness_for_tests();
  auto watcher = Watcher::create({arguments.dumps, kind, arguments.keeps_dumps, {}}, *dataset,
                                 *bindings, options);
  if (!watcher) return report(watcher.error());
  std::uint64_t calls = 0;
  auto last_call = std::chrono::steady_clock::now();
  while (stop_signal() == 0) {
    const auto polled = (*watcher)->poll(std::chrono::steady_clock::now() + watch_slice);
    if (!polled) return report(polled.error());
    const std::uint64_t now = (*watcher)->sanitizer().calls();
    if (now != calls || (*watcher)->pending() > 0 || !polled->has_taken_all)
      last_call = std::chrono::steady_clock::now();
    calls = now;
    std::size_t distinct = 0;
    for (const Progress& definition : (*watcher)->sanitizer().progress())
      distinct += definition.distinct;
    progress.update(fmt::format("{} calls, {} distinct workloads, {} MB on disk",
                                with_separators(calls), with_separators(distinct),
                                (*watcher)->disk() / 1'000'000));
    if (arguments.idle_limit > 0 &&
        std::chrono::steady_clock::now() - last_call > std::chrono::seconds(arguments.idle_limit))
      break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  // finish() tells why what is left cannot be dealt with.
  const auto drained = (*watcher)->drain_in_slices([] { return stop_signal() != 0; }, [] {});
  if (drained && !*drained) {
    progress.clear();
    print(stderr,
          fmt::format("Not all calls were dealt with; the rest is in {}: sanitize takes it.\n",
                      arguments.dumps.string()));
  }
  auto outcome = (*watcher)->finish();
  progress.clear();
  if (!outcome) return report(outcome.error());
  std::size_t kept = 0;
  for (const DefinitionOutcome& definition : outcome->definitions) kept += definition.kept.size();
  if (common.is_json)
    print_json(collection_section((*watcher)->capture(), *outcome, (*watcher)->options()));
  else
    print(stdout, describe(*outcome, arguments.options.definition_names) +
                      next_steps(*outcome, arguments.trace_dir, arguments.options.is_dry_run,
                                 outcome->survey.is_simulated,
                                 arguments.keeps_dumps || kind == CaptureKind::recording
                                     ? arguments.dumps.string()
                                     : ""));
  return kept > 0 ? exit_success : exit_no_workloads;
}

}  // namespace cw::cli
