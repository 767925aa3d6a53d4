#include "collect/disk_guard.h"

#include <algorithm>

#include <sys/statvfs.h>

namespace cw {
namespace {

// Shares of the budget: the engine is frozen above the first and thawed below the second, or, when
// nothing is left to process, below the third, as one step's calls may be that large.
constexpr double freeze_share = 0.5, thaw_share = 0.25, stuck_share = 0.8;
// Always kept free: below this the disk counts as full.
constexpr std::uint64_t min_free_space = 512 << 20;
// For a frozen engine with nothing left to process.
constexpr std::chrono::seconds idle_limit{1};
constexpr std::chrono::milliseconds min_listing_interval{40};

std::uint64_t share_of(double share, std::uint64_t budget) {
  return static_cast<std::uint64_t>(share * static_cast<double>(budget));
}

std::uint64_t free_space(const std::filesystem::path& path) {
  struct statvfs status;
  if (::statvfs(path.c_str(), &status) != 0) return ~std::uint64_t{0};
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

double megabytes(std::uint64_t bytes) {
  return static_cast<double>(bytes) / 1e6;
}

}  // namespace

// A running total, plus what belongs to no call: walking everything would take longer as it grows.
void DiskGuard::measure(const Watcher& watcher) {
  if (Clock::now() >= next_listing_) {
    const auto begin = Clock::now();
    foreign_ = watcher.foreign_disk();
    next_listing_ =
        Clock::now() + std::max<Clock::duration>(min_listing_interval, 10 * (Clock::now() - begin));
  }
  disk_ = watcher.disk() + foreign_;
  peak_ = std::max(peak_, disk_);
}

Result<void> DiskGuard::look(const Watcher& watcher, const Polled& polled, Engine& engine,
                             TrafficControl& traffic) {
  measure(watcher);
  if (options_.method->is_bounded()) return {};
  if (options_.keeps_dumps) {
    if (disk_ > options_.budget) return fail("disk_budget", "the dumps reached --disk-budget");
    return {};
  }

  // Also when the usage is unknown.
  const bool is_full = free_space(options_.folder) < min_free_space;
  if (!engine.is_frozen()) {
    traffic.is_paused = disk_ > share_of(freeze_share, options_.budget) || is_full;
    if (traffic.is_paused || !polled.has_read_all) freeze(engine);
    return {};
  }
  const bool is_relieved = disk_ <= share_of(thaw_share, options_.budget) && !is_full;
  if (is_relieved && polled.has_read_all) {
    thaw(engine, traffic);
    return {};
  }

  // What has been left for a while is calls that a frozen engine cannot complete, or not ours.
  if (!polled.has_taken_all || !polled.has_read_all) idle_since_ = Clock::now();
  if (Clock::now() - idle_since_ < idle_limit) return {};
  if (disk_ > share_of(stuck_share, options_.budget) || is_full) return tl::unexpected(explain());
  thaw(engine, traffic);
  return {};
}

void DiskGuard::freeze(Engine& engine) {
  ++times_frozen_;
  engine.freeze();
  idle_since_ = Clock::now();
}

void DiskGuard::thaw(Engine& engine, TrafficControl& traffic) {
  engine.thaw();
  traffic.is_paused = false;
}

Error DiskGuard::explain() const {
  return {"disk_budget",
          fmt::format("{:.1f} MB in {} cannot be processed, and --disk-budget is {:.1f} MB "
                      "({:.1f} MB are free on that disk); the run was stopped\n"
                      "Give a larger --disk-budget, or make calls smaller: --engine-args "
                      "\"--max-total-tokens 16384\" limits the KV pool, most of each call",
                      megabytes(disk_), options_.folder.string(), megabytes(options_.budget),
                      megabytes(free_space(options_.folder)))};
}

}  // namespace cw
