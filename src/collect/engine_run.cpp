#include "collect/engine_run.h"

#include <atomic>
#include <thread>

#include "base/console.h"
#include "base/redact.h"
#include "collect/disk_guard.h"
#include "collect/timeline.h"
#include "sanitize/section.h"

namespace cw {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds tick{20};
constexpr std::chrono::milliseconds report_interval{200};  // also for log lines
constexpr std::chrono::seconds process_interval{1};        // between checks of engine processes
constexpr std::chrono::minutes startup_limit{10};          // for calls made before the traffic
constexpr std::chrono::milliseconds recorder_window{500};  // by then the recorder has written
constexpr std::chrono::seconds min_save_interval{2};
constexpr int max_save_share = 20;              // inverse of the share of time that saves may take
constexpr std::size_t hopeless_failures = 20;   // failed requests, with none answered
constexpr std::size_t tolerable_failures = 10;  // fewer than one in this many is only reported

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

class EngineRunner {
 public:
  EngineRunner(const EngineRunOptions& options, const Dataset& dataset, const BindingSet& bindings,
               CollectObserver& observer)
      : options_(options),
        dataset_(dataset),
        bindings_(bindings),
        observer_(observer),
        disk_guard_({options.method, options.view.dumps, options.view.disk_budget,
                     options.view.keeps_dumps}) {}

  Result<EngineRunOutcome> operator()() {
    CW_CHECK(prepare_dumps());
    CW_TRY(watcher_, Watcher::create(watched(), dataset_, bindings_, options_.sanitize));
    if (options_.resumes) CW_CHECK(restore());

    if (!outcome_.position.is_collected) CW_CHECK(collect());
    outcome_.is_interrupted = stop_signal() != 0;
    outcome_.position.is_collected = !outcome_.is_interrupted && !outcome_.failure;
    CW_CHECK(write_dataset());

    // What an interrupted run has not processed is left to the run that resumes it.
    if (!options_.view.keeps_dumps && !outcome_.is_interrupted) {
      std::error_code ignored;
      std::filesystem::remove_all(options_.view.dumps, ignored);
    }
    return std::move(outcome_);
  }

 private:
  WatchOptions watched() const {
    return {options_.view.dumps, options_.method, options_.view.keeps_dumps, options_.checkpoint};
  }

  // What is deleted at the end must be ours: a non-empty folder is refused, unless it is left from
  // the run being resumed.
  Result<void> prepare_dumps() {
    const std::filesystem::path& dumps = options_.view.dumps;
    std::error_code error;
    const bool is_used =
        std::filesystem::exists(dumps, error) && !std::filesystem::is_empty(dumps, error);
    if (is_used && options_.resumes && options_.method->is_lasting()) {
      observer_.note("reading what the interrupted run recorded");
    } else if (is_used && options_.resumes && !options_.view.keeps_dumps) {
      observer_.note("reading the dumps that the interrupted run left");
      CW_CHECK(Watcher::absorb(watched(), dataset_, bindings_, options_.sanitize));
    } else if (is_used) {
      return fail("dump_dir_used",
                  "{} is not empty: a run was interrupted there. Resume it with --resume, give "
                  "another --dump-dir or --work-dir, or empty it",
                  dumps.string());
    }
    return ensure_private_directory(dumps);  // level-10 dumps hold activations
  }

  Result<void> restore() {
    const auto more = watcher_->restore();
    if (!more && more.error().code != "not_found") return tl::unexpected(more.error());
    if (const auto position = RunPosition::read(options_.checkpoint)) outcome_.position = *position;
    outcome_.position.is_published = false;
    observer_.note(fmt::format("resuming after {} requests and {} calls",
                               with_separators(outcome_.position.requests),
                               with_separators(watcher_->sanitizer().calls())));
    return {};
  }

  // The checkpoint comes first: with it, a dataset that cannot be written costs nothing.
  Result<void> write_dataset() {
    drain();
    const auto saved = watcher_->save(outcome_.position.to_json());
    if (!saved) observer_.note(saved.error().message);
    if (auto& run = watcher_->options().run) complete_record(*run);

    auto sanitized = watcher_->finish();
    if (!sanitized && saved) return fail("dataset_unwritten", "{}", sanitized.error().message);
    if (!sanitized)
      return fail(sanitized.error().code,
                  "{}\nWhat was collected is lost: writing a checkpoint failed too",
                  sanitized.error().message);
    outcome_.sanitized = std::move(*sanitized);
    outcome_.section =
        section_of(watcher_->capture(), outcome_.sanitized, watcher_->options()).to_json();

    // A resumed run finds the dataset written.
    outcome_.position.is_published = true;
    const Json position = outcome_.position.to_json();
    const auto marked =
        outcome_.position.is_collected ? watcher_->conclude(position) : watcher_->mark(position);
    if (!marked) observer_.note(marked.error().message);
    return {};
  }

  void drain() {
    const auto is_interrupted = [this] {
      return outcome_.is_interrupted = outcome_.is_interrupted || stop_signal() != 0;
    };
    const auto drained = watcher_->drain_in_slices(is_interrupted, [this] {
      if (engine_) report();
    });
    if (!drained) return observer_.note(drained.error().message);
    if (!*drained)
      observer_.note("calls that are not processed yet are kept: --resume processes them");
  }

  // The engine's whole lifetime. Its log is redacted, however that ended.
  Result<void> collect() {
    auto result = serve();
    if (engine_) engine_->stop();
    options_.engine_ended();
    for (const char* name : {"engine.log", "client.log"})
      (void)redact_file(options_.engine.log.parent_path() / name);  // engines print their arguments
    return result;
  }

  Result<void> serve() {
    CW_TRY(prompts_, options_.prompts());
    CW_TRY(log_, RequestLog::open(options_.checkpoint / "requests"));
    resumed_from_ = log_->done();
    control_.sent_twice = log_->sent_twice();
    CW_CHECK(take_pending_calls());  // from an interrupted run: traffic

    CW_CHECK(start());
    ask_for_information();
    send_and_watch();
    return {};
  }

  // Engines also call FlashInfer while loading: to warm up, to tune, to size their pools.
  Result<void> start() {
    watcher_->set_starting(true);
    started_ = Clock::now();
    CW_TRY(auto engine, Engine::start(options_.engine));
    engine_.emplace(std::move(engine));

    // The log is read a few times a second, the dumps at every tick.
    auto next_look = started_;
    CW_CHECK(engine_->wait_until_ready(options_.engine, [&]() -> Result<void> {
      deal_with_dumps();
      save_now_and_then();
      if (outcome_.failure) return tl::unexpected(*outcome_.failure);
      if (Clock::now() < next_look) return {};
      next_look = Clock::now() + report_interval;
      note_time();
      observer_.loading(last_line(options_.engine.log));
      return {};
    }));
    outcome_.ready_seconds = seconds_since(started_);

    // Calls made so far are not traffic; the recorder writes them within a fraction of a second.
    std::this_thread::sleep_for(recorder_window);
    CW_CHECK(take_pending_calls());
    watcher_->set_starting(false);
    observer_.ready(options_.view, outcome_.ready_seconds);
    return {};
  }

  void ask_for_information() {
    if (options_.information.empty()) return;
    const auto answer =
        http_get(options_.engine.url + options_.information, std::chrono::seconds(5),
                 max_information, options_.traffic.headers);
    if (!answer || answer->status != 200) return;
    if (auto json = parse_json(answer->body)) outcome_.server_information = std::move(*json);
  }

  // Our client counts failed requests itself; an error that it returns is about the prompts.
  void send_and_watch() {
    TrafficOptions traffic_options = options_.traffic;
    traffic_options.log = &*log_;
    if (!options_.traffic_command)
      choose_api(traffic_options, options_.endpoint, prompts_->has_text());

    Result<TrafficReport> traffic = TrafficReport{};
    std::atomic<bool> is_done = false;
    std::jthread sender([&](const std::stop_token& stopped) {
      const std::stop_callback stop(stopped, [this] { control_.is_stopped = true; });
      traffic =
          options_.traffic_command ? run_client() : drive(*prompts_, traffic_options, control_);
      is_done = true;
    });
    watch(is_done);
    note_position();

    // Shut down the traffic, then wait for calls in flight, then stop the engine.
    control_.is_stopped = true;
    if (engine_->is_frozen()) disk_guard_.thaw(*engine_, control_);
    if (outcome_.failure) engine_->stop();
    sender.join();
    if (!log_->error().empty())
      observer_.note("--resume may send requests again that are done: " + log_->error());
    if (!outcome_.failure) settle();
    engine_->stop();

    if (traffic)
      outcome_.traffic = std::move(*traffic);
    else
      fail_with(traffic.error().code, traffic.error().message);
    judge_traffic();
  }

  // Another client, with a log next to the engine's; it ends when it is done, or with the run, or
  // with us.
  Result<TrafficReport> run_client() {
    constexpr std::chrono::seconds patience{1};  // it has nothing to save
    const std::filesystem::path log = options_.engine.log.parent_path() / "client.log";
    CW_TRY(ProcessGroup client, ProcessGroup::start(*options_.traffic_command, log));

    control_.under_way = 1;
    auto status = client.status();
    for (; !status && !control_.is_stopped; status = client.status())
      std::this_thread::sleep_for(tick);
    control_.under_way = 0;

    client.stop(patience);
    if (status && !status->is_success())
      return fail("client_failed", "{}: {}\nIts log: {}", printable(*options_.traffic_command),
                  explain_death(log, status), log.string());
    return TrafficReport{};
  }

  // Until traffic has ended or there is a reason to end it.
  void watch(const std::atomic<bool>& is_done) {
    begun_ = last_sign_ = Clock::now();
    auto next_report = Clock::now(), next_processes = Clock::now();
    for (;;) {
      deal_with_dumps();
      save_now_and_then();
      if (Clock::now() >= next_report) {
        next_report = Clock::now() + report_interval;
        report();
      }
      if (Clock::now() >= next_processes) {
        next_processes = Clock::now() + process_interval;
        engine_->note_processes();
      }

      if (stop_signal() != 0 || outcome_.failure || has_died(is_done && control_.failed > 0))
        return;
      if (is_done) return;
      // Nothing works; judge_traffic() says so.
      if (control_.failed >= hopeless_failures && control_.done == 0) return;
      if (Clock::now() - last_sign_ > options_.hang_limit && control_.under_way > 0)
        return fail_with("engine_hangs",
                         fmt::format("the engine hangs: no token and no call for {} s with {} "
                                     "requests under way\nIts log: {}",
                                     options_.hang_limit.count(), control_.under_way.load(),
                                     engine_->log().string()));
      outcome_.is_saturated = options_.until_saturated && is_saturated();
      if (outcome_.is_saturated) return;
      std::this_thread::sleep_for(tick);
    }
  }

  // `is_likely`: requests failed; a dead engine's exit status may come a moment after its
  // connections broke.
  bool has_died(bool is_likely) {
    const auto deadline = Clock::now() + std::chrono::seconds(is_likely ? 1 : 0);
    auto status = engine_->status();
    for (; !status && Clock::now() < deadline; status = engine_->status())
      std::this_thread::sleep_for(tick);
    if (status)
      fail_with("engine_died",
                fmt::format("the engine died while it served: {}\nIts log: {}",
                            explain_death(engine_->log(), status), engine_->log().string()));
    return status.has_value();
  }

  // The first failure wins.
  void fail_with(std::string code, std::string message) {
    if (!outcome_.failure) outcome_.failure = Error{std::move(code), std::move(message)};
  }

  // Everything called so far, before the traffic starts.
  Result<void> take_pending_calls() {
    const auto limit = Clock::now() + startup_limit;
    while (stop_signal() == 0 && Clock::now() < limit) {
      CW_TRY(const Polled polled, watcher_->poll(Clock::now() + watch_slice));
      if (polled.has_read_all && polled.has_taken_all) break;
      save_now_and_then();
    }
    return {};
  }

  // One slice. If the dumps can no longer be followed, the run ends with what it has.
  void deal_with_dumps() {
    const auto polled = watcher_->poll(Clock::now() + watch_slice);
    if (!polled) return fail_with(polled.error().code, polled.error().message);
    last_poll_ = *polled;
    const bool was_frozen = engine_->is_frozen();
    const auto kept = disk_guard_.look(*watcher_, last_poll_, *engine_, control_);
    if (!kept) fail_with(kept.error().code, kept.error().message);
    if (was_frozen) last_sign_ = Clock::now();  // the engine itself does not hang
  }

  void save_now_and_then() {
    if (Clock::now() < next_save_) return;
    const auto begin = Clock::now();
    note_position();
    if (const auto saved = watcher_->save(outcome_.position.to_json()); !saved)
      fail_with(saved.error().code, saved.error().message);
    next_save_ = Clock::now() + std::max<Clock::duration>(min_save_interval,
                                                          max_save_share * (Clock::now() - begin));
  }

  void note_position() {
    outcome_.position.requests = resumed_from_ + control_.done;
    outcome_.position.sent_twice = control_.sent_twice;
  }

  bool is_saturated() const {
    const auto all = watcher_->sanitizer().progress();
    return !all.empty() && std::ranges::all_of(all, [this](const Progress& progress) {
      return progress.distinct >= options_.sanitize.num_samples &&
             progress.calls_since_new >= options_.saturated_after;
    });
  }

  void report() {
    CollectProgress progress;
    progress.requests = control_.total;
    if (control_.total == 0)  // not started yet
      for (const Schedule& schedule : options_.traffic.schedules)
        progress.requests += schedule.requests;
    progress.done = resumed_from_ + control_.done;
    progress.failed = control_.failed;
    progress.under_way = control_.under_way;
    progress.output_tokens = control_.output_tokens;
    progress.calls = watcher_->sanitizer().calls();
    progress.disk = disk_guard_.disk();
    progress.is_frozen = engine_->is_frozen();
    progress.definitions = watcher_->sanitizer().progress();
    if (std::ranges::all_of(progress.definitions,
                            [](const Progress& found) { return found.distinct == 0; }))
      progress.why_none = watcher_->sanitizer().why_none();
    const double seconds = seconds_since(begun_);
    progress.tokens_per_second =
        seconds > 0 ? static_cast<double>(progress.output_tokens) / seconds : 0;

    // A token or a call is a sign of life.
    if (progress.output_tokens != last_tokens_ || progress.calls != last_calls_)
      last_sign_ = Clock::now();
    last_tokens_ = progress.output_tokens;
    last_calls_ = progress.calls;
    note_time();
    observer_.running(options_.view, progress);
  }

  void note_time() { timeline_.add(sample()); }

  TimelineSample sample() const {
    return {seconds_since(started_), resumed_from_ + control_.done,
            control_.output_tokens,  watcher_->sanitizer().calls(),
            disk_guard_.disk(),      control_.under_way};
  }

  // The last answers have arrived; their calls may still be on their way to disk. Calls that never
  // return are not waited for.
  void settle() {
    constexpr std::chrono::seconds patience{5};
    constexpr int enough_quiet = 10;  // ticks
    std::uint64_t calls = 0;
    auto last_call = Clock::now();
    for (int quiet = 0; quiet < enough_quiet;) {
      if (engine_->status() || outcome_.failure || stop_signal() != 0) return;
      deal_with_dumps();
      report();
      const std::uint64_t now = watcher_->sanitizer().calls();
      const bool is_quiet = now == calls && last_poll_.has_taken_all;
      if (!is_quiet) last_call = Clock::now();
      quiet = is_quiet && watcher_->pending() == 0 ? quiet + 1 : 0;
      if (watcher_->pending() > 0 && Clock::now() - last_call > patience) return;
      calls = now;
      std::this_thread::sleep_for(tick);
    }
  }

  void judge_traffic() {
    const TrafficReport& traffic = outcome_.traffic;
    if (outcome_.failure || traffic.failed == 0 || stop_signal() != 0) return;
    std::string kinds;
    for (const auto& [kind, count] : traffic.errors) {
      if (kind == "given_up" && outcome_.is_saturated) continue;
      kinds += fmt::format("{}{} × {}", kinds.empty() ? "" : ", ", count, kind);
    }
    if (kinds.empty()) return;

    const std::string what = fmt::format("{} of {} requests failed ({}), e.g. {}", traffic.failed,
                                         traffic.sent, kinds, traffic.example_error);
    const bool is_tolerable =
        traffic.completed > 0 && traffic.failed * tolerable_failures < traffic.completed;
    if (is_tolerable) return observer_.note(what);
    fail_with("traffic_failed",
              fmt::format("{}\nSee the engine's log: {}", what, engine_->log().string()));
  }

  // How it went.
  void complete_record(RunRecord& run) {
    run.traffic = to_json(outcome_.traffic);

    // How far each schedule got: prompts may run out, or the run may end.
    const auto& reached = outcome_.traffic.reached;
    for (std::size_t i = 0; i < std::min(run.schedules.size(), reached.size()); ++i)
      run.schedules[i].reached = reached[i];

    outcome_.peak_disk = disk_guard_.peak();
    outcome_.times_frozen = disk_guard_.times_frozen();
    run.ready_seconds = outcome_.ready_seconds;
    timeline_.finish(sample());
    run.timeline = timeline_.record();
    run.peak_disk = outcome_.peak_disk;
    run.times_frozen = outcome_.times_frozen;
    run.is_saturated = outcome_.is_saturated;
    run.is_interrupted = outcome_.is_interrupted;
    if (options_.resumes) run.resumed_after = resumed_from_;

    // No capture tells which calls were theirs, as batches are shared. So they count, and their
    // number is reported.
    run.sent_twice = outcome_.position.sent_twice;
    if (outcome_.failure) run.failure = outcome_.failure->code;

    const Json& server = outcome_.server_information;
    if (server.is_object())
      for (const char* name : {"version", "max_total_num_tokens", "page_size", "tp_size"})
        if (server.contains(name)) run.server[name] = server[name];
    // Whatever the command, our own engine identifies itself.
    run.is_simulated = run.is_simulated || bool_member(server, "simulated");
  }

  const EngineRunOptions& options_;
  const Dataset& dataset_;
  const BindingSet& bindings_;
  CollectObserver& observer_;
  DiskGuard disk_guard_;
  std::unique_ptr<PromptSource> prompts_;
  std::unique_ptr<Watcher> watcher_;
  std::optional<Engine> engine_;
  TrafficControl control_;
  EngineRunOutcome outcome_;
  Clock::time_point started_, begun_, last_sign_, next_save_;
  Timeline timeline_;
  std::uint64_t last_tokens_ = 0, last_calls_ = 0;
  Polled last_poll_;
  std::optional<RequestLog> log_;
  std::size_t resumed_from_ = 0;  ///< requests
};

}  // namespace

Result<EngineRunOutcome> run_engine(const EngineRunOptions& options, const Dataset& dataset,
                                    const BindingSet& bindings, CollectObserver& observer) {
  return EngineRunner(options, dataset, bindings, observer)();
}

}  // namespace cw
