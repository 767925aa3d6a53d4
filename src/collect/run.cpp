#include "collect/run.h"

#include <thread>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/console.h"
#include "collect/timeline.h"
#include "pipeline/collection.h"

namespace cw {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto tick = std::chrono::milliseconds(20);
constexpr std::uint64_t least_free = 512 << 20;  // the disk is full before it is full

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
    const WatchOptions watched{options_.dumps, options_.capture, options_.keeps_dumps, options_.checkpoint};
    CW_TRY(watcher_, Watcher::create(watched, dataset_, bindings_, options_.sanitize));
    if (options_.resumes) CW_CHECK(restore());
    if (!outcome_.position.is_collected) CW_CHECK(collect());
    outcome_.is_interrupted = stop_signal() != 0;
    outcome_.position.is_collected = !outcome_.is_interrupted && !outcome_.failure;
    CW_CHECK(write_dataset());
    if (!options_.keeps_dumps) {
      std::error_code ignored;
      std::filesystem::remove_all(options_.dumps, ignored);
    }
    return std::move(outcome_);
  }

 private:
  // What is deleted in the end must be ours: a folder that holds anything is not taken, unless it is left of the run
  // that is resumed.
  Result<void> prepare_dumps() {
    std::error_code error;
    const bool is_used = std::filesystem::exists(options_.dumps, error) && !std::filesystem::is_empty(options_.dumps, error);
    if (is_used && options_.resumes && options_.capture == CaptureKind::recording) {
      observer_.note("reading what the interrupted run recorded");
    } else if (is_used && options_.resumes && !options_.keeps_dumps) {
      observer_.note("taking up the dumps that the interrupted run left");
      CW_CHECK(Watcher::absorb({options_.dumps, options_.capture, false, options_.checkpoint}, dataset_, bindings_, options_.sanitize));
    } else if (is_used) {
      return fail("dump_dir_used", "{} is not empty; give another --dump-dir or --work-dir, or empty it",
                  options_.dumps.string());
    }
    CW_CHECK(make_directories(options_.dumps));
    ::chmod(options_.dumps.c_str(), 0700);  // level-10 dumps hold activations
    return {};
  }

  Result<void> restore() {
    const auto more = watcher_->restore();
    if (!more && more.error().code != "not_found") return tl::unexpected(more.error());
    if (const auto position = CollectPosition::read(options_.checkpoint)) outcome_.position = *position;
    outcome_.position.is_published = false;
    resumed_from_ = outcome_.position.requests;
    observer_.note(fmt::format("going on after {} requests and {} calls", with_separators(resumed_from_),
                               with_separators(watcher_->sanitizer().calls())));
    return {};
  }

  // The checkpoint comes first: with it, a dataset that cannot be written costs nothing.
  Result<void> write_dataset() {
    if (const auto drained = watcher_->drain(); !drained) observer_.note(drained.error().message);
    const auto saved = watcher_->save(outcome_.position.to_json());
    if (!saved) observer_.note(saved.error().message);
    describe_run();
    auto sanitized = watcher_->finish();
    if (!sanitized)
      return fail(saved ? "dataset_unwritten" : sanitized.error().code, "{}{}", sanitized.error().message,
                  saved ? "" : "\nWhat was collected is lost: it could not be checkpointed either");
    outcome_.sanitized = std::move(*sanitized);
    outcome_.section = collection_section(watcher_->capture(), outcome_.sanitized, watcher_->options());
    outcome_.position.is_published = true;
    const Json position = outcome_.position.to_json();
    const auto marked = outcome_.position.is_collected ? watcher_->conclude(position) : watcher_->mark(position);
    if (!marked) observer_.note(marked.error().message);
    return {};
  }

  // The engine's whole life.
  Result<void> collect() {
    CW_TRY(prompts_, options_.prompts());
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
    observer_.ready(outcome_.ready_seconds);
    if (const auto info = http_get(options_.engine.url + "/server_info"); info && info->status == 200)
      if (auto json = parse_json(info->body)) outcome_.server_info = std::move(*json);

    // Our client counts its own errors; what it returns as one is about the prompts.
    TrafficOptions traffic_options = options_.traffic;
    traffic_options.skip = resumed_from_;
    Result<TrafficReport> traffic = TrafficReport{};
    std::atomic<bool> is_done = false;
    std::thread sender([&] {
      traffic = options_.traffic_command ? run_command() : drive(*prompts_, traffic_options, control_);
      is_done = true;
    });
    watch(is_done);
    note_position();
    control_.is_stopped = true;
    if (engine_->is_frozen()) engine_->thaw();
    if (outcome_.failure) engine_->stop();
    sender.join();
    if (!outcome_.failure) settle();
    engine_->stop();
    if (!traffic) fail_with(traffic.error().code, traffic.error().message);
    if (traffic) outcome_.traffic = std::move(*traffic);
    judge_traffic();
    return {};
  }

  // Another client, with a log beside the engine's; it ends when it is done, when the run is, or with us.
  Result<TrafficReport> run_command() {
    const std::filesystem::path log = options_.engine.log.parent_path() / "client.log";
    CW_TRY(ProcessGroup client, ProcessGroup::start(*options_.traffic_command, log));
    control_.under_way = 1;
    auto status = client.status();
    for (; !status && !control_.is_stopped; status = client.status()) std::this_thread::sleep_for(tick);
    control_.under_way = 0;
    if (status && !status->is_success())
      return fail("client_failed", "{}: {}\nIts log: {}", to_shell(*options_.traffic_command),
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
      if (stop_signal() != 0 || outcome_.failure || has_died(is_done && control_.failed > 0) || is_done) return;
      if (control_.failed >= 20 && control_.done == 0) return;  // nothing works; judge_traffic() says so
      if (Clock::now() - last_sign_ > options_.hang_limit && control_.under_way > 0) {
        fail_with("engine_hangs",
                  fmt::format("the engine hangs: no token and no call for {} s with {} requests under way\nIts log: {}",
                              options_.hang_limit.count(), control_.under_way.load(), engine_->log().string()));
        return;
      }
      if (options_.until_saturated && is_saturated()) {
        outcome_.is_saturated = true;
        return;
      }
      std::this_thread::sleep_for(tick);
    }
  }

  // `is_likely`: requests failed; a dead engine's exit status may come a moment after its connections broke.
  bool has_died(bool is_likely) {
    const auto deadline = Clock::now() + std::chrono::seconds(is_likely ? 1 : 0);
    auto status = engine_->status();
    for (; !status && Clock::now() < deadline; status = engine_->status()) std::this_thread::sleep_for(tick);
    if (status)
      fail_with("engine_died", fmt::format("the engine died while it served: {}\nIts log: {}",
                                           explain_death(engine_->log(), status), engine_->log().string()));
    return status.has_value();
  }

  void fail_with(std::string code, std::string message) {
    if (!outcome_.failure) outcome_.failure = Error{std::move(code), std::move(message)};
  }

  std::uint64_t measure_disk() {
    disk_ = disk_usage(options_.dumps);
    outcome_.peak_disk = std::max(outcome_.peak_disk, disk_);
    return disk_;
  }

  void deal_with_dumps() {
    measure_disk();
    poll();
    keep_within_budget();
  }

  // Dumps that cannot be followed any more end the run, with what it has.
  void poll() {
    if (const auto polled = watcher_->poll(); !polled) fail_with(polled.error().code, polled.error().message);
  }

  // Not more often than costs a twentieth of the time.
  void save_now_and_then() {
    if (Clock::now() < next_save_) return;
    const auto begin = Clock::now();
    note_position();
    if (const auto saved = watcher_->save(outcome_.position.to_json()); !saved)
      fail_with(saved.error().code, saved.error().message);
    next_save_ = Clock::now() + std::max<Clock::duration>(std::chrono::seconds(2), 20 * (Clock::now() - begin));
  }

  // Requests that failed or are under way are sent again by whoever resumes.
  void note_position() { outcome_.position.requests = resumed_from_ + control_.done; }

  void keep_within_budget() {
    if (options_.capture == CaptureKind::recording) return;
    std::uint64_t disk = measure_disk();
    const auto is_over = [&](std::uint64_t used) {
      return used > options_.disk_budget / 2 || free_space(options_.dumps) < least_free;
    };
    control_.is_paused = is_over(disk) && !options_.keeps_dumps;
    if (!is_over(disk) || options_.keeps_dumps) {
      if (options_.keeps_dumps && disk > options_.disk_budget)
        fail_with("disk_budget", "the dumps reached --disk-budget");
      return;
    }
    ++outcome_.freezes;
    engine_->freeze();
    const auto begin = Clock::now();
    while (disk > options_.disk_budget / 4) {
      poll();
      disk = measure_disk();
      // What is left now are calls that a frozen engine cannot complete, or nothing of ours.
      if (Clock::now() - begin > std::chrono::seconds(2)) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    // Between half and the whole there is room to go on, slowly: a step's calls may be that large.
    if (disk > options_.disk_budget / 10 * 8 || free_space(options_.dumps) < least_free)
      fail_with("disk_budget",
                fmt::format("{:.1f} MB in {} cannot be dealt with, and --disk-budget is {:.1f} MB ({:.1f} MB are free on "
                            "that disk); the run was ended\nGive a larger --disk-budget, or make calls smaller: with "
                            "--engine-args \"--max-total-tokens 16384\" the KV pool, which is most of each, is cut",
                            static_cast<double>(disk) / 1e6, options_.dumps.string(),
                            static_cast<double>(options_.disk_budget) / 1e6,
                            static_cast<double>(free_space(options_.dumps)) / 1e6));
    else
      engine_->thaw();
    last_sign_ = Clock::now();
  }

  bool is_saturated() const {
    const auto all = watcher_->sanitizer().progress();
    if (all.empty()) return false;
    for (const Progress& progress : all)
      if (progress.distinct < options_.sanitize.num_samples || progress.calls_since_new < options_.saturated_after)
        return false;
    return true;
  }

  void report() {
    CollectProgress progress;
    for (const Schedule& schedule : options_.traffic.schedules) progress.requests += schedule.requests;
    progress.done = resumed_from_ + control_.done;
    progress.failed = control_.failed;
    progress.under_way = control_.under_way;
    progress.output_tokens = control_.output_tokens;
    progress.calls = watcher_->sanitizer().calls();
    if (progress.output_tokens != last_tokens_ || progress.calls != last_calls_) last_sign_ = Clock::now();
    last_tokens_ = progress.output_tokens;
    last_calls_ = progress.calls;
    const double seconds = std::chrono::duration<double>(Clock::now() - begun_).count();
    progress.tokens_per_second = seconds > 0 ? static_cast<double>(progress.output_tokens) / seconds : 0;
    progress.disk = disk_;
    progress.is_frozen = engine_->is_frozen();
    progress.definitions = watcher_->sanitizer().progress();
    note_time();
    observer_.running(progress);
  }

  void note_time() { timeline_.add(sample()); }

  TimelineSample sample() const {
    return {std::chrono::duration<double>(Clock::now() - started_).count(), resumed_from_ + control_.done,
            control_.output_tokens, watcher_->sanitizer().calls(), disk_, control_.under_way};
  }

  // The last answers have come; their calls may still be on the way to the disk.
  void settle() {
    std::uint64_t calls = 0;
    for (int quiet = 0; quiet < 10 && !engine_->status();) {
      if (!watcher_->poll()) return;
      const std::uint64_t now = watcher_->sanitizer().calls();
      quiet = now == calls && watcher_->pending() == 0 ? quiet + 1 : 0;
      if (now == calls && watcher_->pending() > 0 && ++unsettled_ > 250) return;
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
    if (traffic.completed > 0 && traffic.failed * 10 < traffic.completed) return observer_.note(fmt::format(
        "{} of {} requests failed ({}), e.g. {}", traffic.failed, traffic.sent, kinds, traffic.example_error));
    fail_with("traffic_failed",
              fmt::format("{} of {} requests failed ({}), e.g. {}\nLook into the engine's log: {}", traffic.failed,
                          traffic.sent, kinds, traffic.example_error, engine_->log().string()));
  }

  void describe_run() {
    Json& run = watcher_->options().provenance;
    if (run.is_null()) run = Json::object();
    run["traffic"] = to_json(outcome_.traffic);
    run["ready_after_s"] = outcome_.ready_seconds;
    timeline_.finish(sample());
    run["timeline"] = timeline_.to_json();
    run["peak_disk_bytes"] = outcome_.peak_disk;
    run["engine_frozen_times"] = outcome_.freezes;
    run["saturated"] = outcome_.is_saturated;
    run["interrupted"] = outcome_.is_interrupted;
    if (options_.resumes) run["resumed_after_requests"] = resumed_from_;
    if (outcome_.failure) run["failure"] = outcome_.failure->code;
    if (outcome_.server_info.is_object())
      for (const char* name : {"version", "max_total_num_tokens", "page_size", "tp_size"})
        if (outcome_.server_info.contains(name)) run["server"][name] = outcome_.server_info[name];
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
  std::uint64_t last_tokens_ = 0, last_calls_ = 0, disk_ = 0;
  Clock::time_point next_save_;
  std::size_t resumed_from_ = 0;  ///< requests
  int unsettled_ = 0;
};

}  // namespace

Json CollectPosition::to_json() const {
  return {{"requests", requests}, {"collected", is_collected}, {"published", is_published}};
}

std::optional<CollectPosition> CollectPosition::read(const std::filesystem::path& checkpoint) {
  const Json json = Checkpoint::more_of(checkpoint);
  if (!json.is_object()) return std::nullopt;
  const auto flag = [&json](const char* name) { return json.contains(name) && json[name] == true; };
  const auto requests = json.find("requests");
  const bool is_number = requests != json.end() && requests->is_number_unsigned();
  return CollectPosition{is_number ? requests->get<std::size_t>() : 0, flag("collected"), flag("published")};
}

Result<CollectRunOutcome> collect_run(const CollectRunOptions& options, const Dataset& dataset,
                                      const BindingSet& bindings, const CollectObserver& observer) {
  return CollectRun(options, dataset, bindings, observer)();
}

}  // namespace cw
