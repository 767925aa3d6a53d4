#include "collect/run.h"

#include <thread>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/console.h"
#include "base/redact.h"
#include "capture/level10/follower.h"
#include "collect/timeline.h"
#include "sanitize/section.h"

namespace cw {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto tick = std::chrono::milliseconds(20);
constexpr std::uint64_t least_free = 512 << 20;        // the disk is full before it is full
constexpr auto rest_limit = std::chrono::minutes(10);  // for calls of before the traffic
constexpr auto recorder_window = std::chrono::milliseconds(500);
// Of a frozen engine, with nothing left to deal with.
constexpr auto idle_limit = std::chrono::seconds(1);

std::uint64_t free_space(const std::filesystem::path& path) {
  struct statvfs status;
  if (::statvfs(path.c_str(), &status) != 0) return ~std::uint64_t{0};
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

class CollectRun {
 public:
  CollectRun(const CollectRunOptions& options, const Dataset& dataset, const BindingSet& bindings,
             const CollectObserver& observer)
      : options_(options), dataset_(dataset), bindings_(bindings), observer_(observer) {}

  Result<CollectRunOutcome> operator()() {
    CW_CHECK(prepare_dumps());
    const WatchOptions watched{options_.dumps, options_.capture, options_.keeps_dumps,
                               options_.checkpoint};
    CW_TRY(watcher_, Watcher::create(watched, dataset_, bindings_, options_.sanitize));
    if (options_.resumes) CW_CHECK(restore());
    if (!outcome_.position.is_collected) CW_CHECK(collect());
    outcome_.is_interrupted = stop_signal() != 0;
    outcome_.position.is_collected = !outcome_.is_interrupted && !outcome_.failure;
    CW_CHECK(write_dataset());
    // What an interrupted run has not come to is taken up by the one that resumes it.
    if (!options_.keeps_dumps && !outcome_.is_interrupted) {
      std::error_code ignored;
      std::filesystem::remove_all(options_.dumps, ignored);
    }
    return std::move(outcome_);
  }

 private:
  // What is deleted in the end must be ours: a folder that holds anything is not taken, unless it
  // is left of the run that is resumed.
  Result<void> prepare_dumps() {
    std::error_code error;
    const bool is_used = std::filesystem::exists(options_.dumps, error) &&
                         !std::filesystem::is_empty(options_.dumps, error);
    if (is_used && options_.resumes && options_.capture == CaptureKind::recording) {
      observer_.note("reading what the interrupted run recorded");
    } else if (is_used && options_.resumes && !options_.keeps_dumps) {
      observer_.note("taking up the dumps that the interrupted run left");
      CW_CHECK(Watcher::absorb({options_.dumps, options_.capture, false, options_.checkpoint},
                               dataset_, bindings_, options_.sanitize));
    } else if (is_used) {
      return fail("dump_dir_used",
                  "{} is not empty: a run was interrupted there. Go on with it by --resume, give "
                  "another --dump-dir or "
                  "--work-dir, or empty it",
                  options_.dumps.string());
    }
    return ensure_private_directory(options_.dumps);  // level-10 dumps hold activations
  }

  Result<void> restore() {
    const auto more = watcher_->restore();
    if (!more && more.error().code != "not_found") return tl::unexpected(more.error());
    if (const auto position = CollectPosition::read(options_.checkpoint))
      outcome_.position = *position;
    outcome_.position.is_published = false;
    observer_.note(fmt::format("going on after {} requests and {} calls",
                               with_separators(outcome_.position.requests),
                               with_separators(watcher_->sanitizer().calls())));
    return {};
  }

  // The checkpoint comes first: with it, a dataset that cannot be written costs nothing.
  Result<void> write_dataset() {
    drain();
    const auto saved = watcher_->save(outcome_.position.to_json());
    if (!saved) observer_.note(saved.error().message);
    describe_run();
    auto sanitized = watcher_->finish();
    if (!sanitized)
      return fail(saved ? "dataset_unwritten" : sanitized.error().code, "{}{}",
                  sanitized.error().message,
                  saved ? "" : "\nWhat was collected is lost: it could not be checkpointed either");
    outcome_.sanitized = std::move(*sanitized);
    outcome_.section =
        collection_section(watcher_->capture(), outcome_.sanitized, watcher_->options());
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
      observer_.note(
          "calls that were not dealt with yet are kept: whoever resumes the run takes them");
  }

  // The engine's whole life. Its log is nobody's secret, however that ended.
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
    CW_CHECK(deal_with_the_rest());  // of an interrupted run: traffic
    watcher_->set_starting(true);
    const auto begin = started_ = Clock::now();
    CW_TRY(auto engine, Engine::start(options_.engine));
    engine_.emplace(std::move(engine));
    // Engines call FlashInfer while they load too: to warm up, to tune, to size their pools.
    auto next_look = begin;  // the log is read a few times a second, the dumps at every tick
    CW_CHECK(engine_->wait_until_ready(options_.engine, [&]() -> Result<void> {
      deal_with_dumps();
      save_now_and_then();
      if (outcome_.failure) return tl::unexpected(*outcome_.failure);
      if (Clock::now() < next_look) return {};
      next_look = Clock::now() + std::chrono::milliseconds(200);
      note_time();
      observer_.loading(last_line(options_.engine.log));
      return {};
    }));
    outcome_.ready_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    // What it has called up to now is no traffic; the recorder writes it within a part of a second.
    std::this_thread::sleep_for(recorder_window);
    CW_CHECK(deal_with_the_rest());
    watcher_->set_starting(false);
    observer_.ready(outcome_.ready_seconds);
    const auto info = http_get(options_.engine.url + "/server_info", std::chrono::seconds(5),
                               largest_information, options_.traffic.headers);
    if (info && info->status == 200)
      if (auto json = parse_json(info->body)) outcome_.server_info = std::move(*json);

    // Our client counts its own errors; what it returns as one is about the prompts.
    TrafficOptions traffic_options = options_.traffic;
    traffic_options.log = &*log_;
    if (!options_.traffic_command)
      choose_api(traffic_options, options_.endpoint, prompts_->has_text());
    Result<TrafficReport> traffic = TrafficReport{};
    std::atomic<bool> is_done = false;
    std::jthread sender([&](const std::stop_token& stopped) {
      const std::stop_callback stop(stopped, [this] { control_.is_stopped = true; });
      traffic =
          options_.traffic_command ? run_command() : drive(*prompts_, traffic_options, control_);
      is_done = true;
    });
    watch(is_done);
    note_position();
    control_.is_stopped = true;
    if (engine_->is_frozen()) engine_->thaw();
    if (outcome_.failure) engine_->stop();
    sender.join();
    if (!log_->error().empty())
      observer_.note("whoever resumes the run may send requests again that are done: " +
                     log_->error());
    if (!outcome_.failure) settle();
    engine_->stop();
    if (!traffic) fail_with(traffic.error().code, traffic.error().message);
    if (traffic) outcome_.traffic = std::move(*traffic);
    judge_traffic();
    return {};
  }

  // Another client, with a log beside the engine's; it ends when it is done, when the run is, or
  // with us.
  Result<TrafficReport> run_command() {
    const std::filesystem::path log = options_.engine.log.parent_path() / "client.log";
    constexpr auto patience = std::chrono::seconds(1);  // it has nothing to save
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
    auto next_report = Clock::now();
    for (;;) {
      deal_with_dumps();
      save_now_and_then();
      if (Clock::now() >= next_report) {
        next_report = Clock::now() + std::chrono::milliseconds(200);
        report();
      }
      if (Clock::now() >= next_look_) {
        next_look_ = Clock::now() + std::chrono::seconds(1);
        engine_->note_processes();
      }
      if (stop_signal() != 0 || outcome_.failure || has_died(is_done && control_.failed > 0) ||
          is_done)
        return;
      if (control_.failed >= 20 && control_.done == 0)
        return;  // nothing works; judge_traffic() says so
      if (Clock::now() - last_sign_ > options_.hang_limit && control_.under_way > 0) {
        fail_with("engine_hangs", fmt::format("the engine hangs: no token and no call for {} s "
                                              "with {} requests under way\nIts log: {}",
                                              options_.hang_limit.count(),
                                              control_.under_way.load(), engine_->log().string()));
        return;
      }
      if (options_.until_saturated && is_saturated()) {
        outcome_.is_saturated = true;
        return;
      }
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

  void fail_with(std::string code, std::string message) {
    if (!outcome_.failure) outcome_.failure = Error{std::move(code), std::move(message)};
  }

  // A sum that is kept up, and what is no call's: a walk over all of it would take the longer the
  // more there is.
  void measure_disk() {
    if (Clock::now() >= next_listing_) {
      const auto begin = Clock::now();
      foreign_disk_ = options_.capture == CaptureKind::recording
                          ? 0
                          : level10::disk_of_foreign_files(options_.dumps);
      next_listing_ =
          Clock::now() + std::max<Clock::duration>(2 * tick, 10 * (Clock::now() - begin));
    }
    disk_ = watcher_->disk() + foreign_disk_;
    outcome_.peak_disk = std::max(outcome_.peak_disk, disk_);
  }

  // All that was called up to now, before the traffic that is to come.
  Result<void> deal_with_the_rest() {
    const auto limit = Clock::now() + rest_limit;
    while (stop_signal() == 0 && Clock::now() < limit) {
      CW_TRY(const Polled polled, watcher_->poll(Clock::now() + watch_slice));
      if (polled.has_read_all && polled.has_taken_all) break;
      save_now_and_then();
    }
    return {};
  }

  // One slice. Dumps that cannot be followed any more end the run, with what it has.
  void deal_with_dumps() {
    const auto polled = watcher_->poll(Clock::now() + watch_slice);
    if (!polled) return fail_with(polled.error().code, polled.error().message);
    last_poll_ = *polled;
    measure_disk();
    keep_within_budget();
  }

  // Not more often than costs a twentieth of the time.
  void save_now_and_then() {
    if (Clock::now() < next_save_) return;
    const auto begin = Clock::now();
    note_position();
    if (const auto saved = watcher_->save(outcome_.position.to_json()); !saved)
      fail_with(saved.error().code, saved.error().message);
    next_save_ = Clock::now() +
                 std::max<Clock::duration>(std::chrono::seconds(2), 20 * (Clock::now() - begin));
  }

  void note_position() {
    outcome_.position.requests = resumed_from_ + control_.done;
    outcome_.position.sent_twice = control_.sent_twice;
  }

  // Past half of the budget, or where it is not known how much there is, new requests wait and the
  // engine is frozen; it goes on when three quarters are free again, or when nothing is left that
  // could be dealt with.
  void keep_within_budget() {
    if (options_.capture == CaptureKind::recording) return;
    const bool is_full = free_space(options_.dumps) < least_free;
    if (options_.keeps_dumps) {
      if (disk_ > options_.disk_budget) fail_with("disk_budget", "the dumps reached --disk-budget");
      return;
    }
    if (!engine_->is_frozen()) {
      control_.is_paused = disk_ > options_.disk_budget / 2 || is_full;
      if (control_.is_paused || !last_poll_.has_read_all) freeze();
      return;
    }
    last_sign_ = Clock::now();  // it is not the engine that hangs
    if (disk_ <= options_.disk_budget / 4 && !is_full && last_poll_.has_read_all) return thaw();
    if (!last_poll_.has_taken_all || !last_poll_.has_read_all) idle_since_ = Clock::now();
    if (Clock::now() - idle_since_ < idle_limit) return;

    // What is left now are calls that a frozen engine cannot complete, or nothing of ours. Between
    // half and the whole there is room to go on, slowly: a step's calls may be that large.
    if (disk_ <= options_.disk_budget / 10 * 8 && !is_full) return thaw();
    fail_with(
        "disk_budget",
        fmt::format(
            "{:.1f} MB in {} cannot be dealt with, and --disk-budget is {:.1f} MB ({:.1f} MB are "
            "free on "
            "that disk); the run was ended\nGive a larger --disk-budget, or make calls smaller: "
            "with "
            "--engine-args \"--max-total-tokens 16384\" the KV pool, which is most of each, is cut",
            static_cast<double>(disk_) / 1e6, options_.dumps.string(),
            static_cast<double>(options_.disk_budget) / 1e6,
            static_cast<double>(free_space(options_.dumps)) / 1e6));
  }

  void freeze() {
    ++outcome_.freezes;
    engine_->freeze();
    idle_since_ = Clock::now();
  }

  void thaw() {
    engine_->thaw();
    control_.is_paused = false;
    last_sign_ = Clock::now();
  }

  bool is_saturated() const {
    const auto all = watcher_->sanitizer().progress();
    if (all.empty()) return false;
    for (const Progress& progress : all)
      if (progress.distinct < options_.sanitize.num_samples ||
          progress.calls_since_new < options_.saturated_after)
        return false;
    return true;
  }

  void report() {
    CollectProgress progress;
    progress.requests = control_.total;
    for (std::size_t i = 0; control_.total == 0 && i < options_.traffic.schedules.size(); ++i)
      progress.requests += options_.traffic.schedules[i].requests;
    progress.done = resumed_from_ + control_.done;
    progress.failed = control_.failed;
    progress.under_way = control_.under_way;
    progress.output_tokens = control_.output_tokens;
    progress.calls = watcher_->sanitizer().calls();
    if (progress.output_tokens != last_tokens_ || progress.calls != last_calls_)
      last_sign_ = Clock::now();
    last_tokens_ = progress.output_tokens;
    last_calls_ = progress.calls;
    const double seconds = std::chrono::duration<double>(Clock::now() - begun_).count();
    progress.tokens_per_second =
        seconds > 0 ? static_cast<double>(progress.output_tokens) / seconds : 0;
    progress.disk = disk_;
    progress.is_frozen = engine_->is_frozen();
    progress.definitions = watcher_->sanitizer().progress();
    note_time();
    observer_.running(progress);
  }

  void note_time() { timeline_.add(sample()); }

  TimelineSample sample() const {
    return {std::chrono::duration<double>(Clock::now() - started_).count(),
            resumed_from_ + control_.done,
            control_.output_tokens,
            watcher_->sanitizer().calls(),
            disk_,
            control_.under_way};
  }

  // The last answers have come; their calls may still be on the way to the disk. A call that never
  // returns is not waited for.
  void settle() {
    constexpr auto patience = std::chrono::seconds(5);
    std::uint64_t calls = 0;
    auto last_call = Clock::now();
    for (int quiet = 0;
         quiet < 10 && !engine_->status() && !outcome_.failure && stop_signal() == 0;) {
      deal_with_dumps();
      report();
      const std::uint64_t now = watcher_->sanitizer().calls();
      if (now != calls || !last_poll_.has_taken_all) last_call = Clock::now();
      quiet = now == calls && last_poll_.has_taken_all && watcher_->pending() == 0 ? quiet + 1 : 0;
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
    if (traffic.completed > 0 && traffic.failed * 10 < traffic.completed)
      return observer_.note(fmt::format("{} of {} requests failed ({}), e.g. {}", traffic.failed,
                                        traffic.sent, kinds, traffic.example_error));
    fail_with("traffic_failed",
              fmt::format("{} of {} requests failed ({}), e.g. {}\nLook into the engine's log: {}",
                          traffic.failed, traffic.sent, kinds, traffic.example_error,
                          engine_->log().string()));
  }

  void describe_run() {
    Json& run = watcher_->options().provenance;
    if (run.is_null()) run = Json::object();
    run["traffic"] = to_json(outcome_.traffic);
    // What of each schedule was not come to: prompts ran out, or the run ended.
    const auto schedules = run.find("schedules");
    for (std::size_t i = 0;
         schedules != run.end() && i < std::min(schedules->size(), outcome_.traffic.reached.size());
         ++i)
      (*schedules)[i]["reached"] = outcome_.traffic.reached[i];
    run["ready_after_s"] = outcome_.ready_seconds;
    timeline_.finish(sample());
    run["timeline"] = timeline_.to_json();
    run["peak_disk_bytes"] = outcome_.peak_disk;
    run["engine_frozen_times"] = outcome_.freezes;
    run["saturated"] = outcome_.is_saturated;
    run["interrupted"] = outcome_.is_interrupted;
    if (options_.resumes) run["resumed_after_requests"] = resumed_from_;
    // Which calls were theirs no capture says: batches are shared. So they count, and how many
    // there are is told.
    if (outcome_.position.sent_twice > 0) run["requests_sent_twice"] = outcome_.position.sent_twice;
    if (outcome_.failure) run["failure"] = outcome_.failure->code;
    if (outcome_.server_info.is_object())
      for (const char* name : {"version", "max_total_num_tokens", "page_size", "tp_size"})
        if (outcome_.server_info.contains(name)) run["server"][name] = outcome_.server_info[name];
    // Behind whatever command: our own engine says so.
    if (bool_member(outcome_.server_info, "simulated")) run["simulated"] = true;
  }

  const CollectRunOptions& options_;
  const Dataset& dataset_;
  const BindingSet& bindings_;
  const CollectObserver& observer_;
  std::unique_ptr<PromptSource> prompts_;
  std::unique_ptr<Watcher> watcher_;
  std::optional<Engine> engine_;
  TrafficControl control_;
  CollectRunOutcome outcome_;
  Clock::time_point started_, begun_, last_sign_;
  Timeline timeline_;
  std::uint64_t last_tokens_ = 0, last_calls_ = 0;
  std::uint64_t disk_ = 0, foreign_disk_ = 0;  ///< of all, and of what is no call's
  Polled last_poll_;
  Clock::time_point next_save_, next_listing_, next_look_, idle_since_;
  std::optional<RequestLog> log_;
  std::size_t resumed_from_ = 0;  ///< requests
};

}  // namespace

Json CollectPosition::to_json() const {
  return {{"requests", requests},
          {"sent_twice", sent_twice},
          {"collected", is_collected},
          {"published", is_published}};
}

std::optional<CollectPosition> CollectPosition::read(const std::filesystem::path& checkpoint) {
  const Json json = Checkpoint::more_of(checkpoint);
  if (!json.is_object()) return std::nullopt;
  return CollectPosition{unsigned_member(json, "requests"), unsigned_member(json, "sent_twice"),
                         bool_member(json, "collected"), bool_member(json, "published")};
}

Result<CollectRunOutcome> collect_run(const CollectRunOptions& options, const Dataset& dataset,
                                      const BindingSet& bindings, const CollectObserver& observer) {
  return CollectRun(options, dataset, bindings, observer)();
}

}  // namespace cw
