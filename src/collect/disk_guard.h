// Keeps a capture that does not bound itself within the disk budget of its run.
//
// Dumps are deleted as soon as they are bound. Past half of the budget new requests wait and the
// engine is frozen (SIGSTOP) until the dumps are dealt with; and when that does not help, the run
// ends with what it has.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>

#include "engine/engine.h"
#include "sanitize/watch.h"
#include "traffic/traffic.h"

namespace cw {

struct DiskGuardOptions {
  const CaptureMethod* method = nullptr;
  std::filesystem::path folder;  ///< of the capture
  std::uint64_t budget = 0;      ///< bytes
  bool keeps_dumps = false;      ///< nothing is deleted: the budget is a limit and nothing else
};

class DiskGuard {
 public:
  explicit DiskGuard(DiskGuardOptions options) : options_(std::move(options)) {}

  /// After each slice of watching: measures, and pauses traffic and engine or lets them go on.
  /// Error code "disk_budget": nothing helps.
  Result<void> look(const Watcher& watcher, const Polled& polled, Engine& engine,
                    TrafficControl& traffic);
  /// Lets a frozen engine go on.
  void thaw(Engine& engine, TrafficControl& traffic);

  std::uint64_t disk() const { return disk_; }  ///< bytes, when it was measured last
  std::uint64_t peak() const { return peak_; }  ///< the most that was seen
  std::size_t times_frozen() const { return times_frozen_; }

 private:
  using Clock = std::chrono::steady_clock;

  void measure(const Watcher& watcher);
  void freeze(Engine& engine);
  Error explain() const;

  DiskGuardOptions options_;
  std::uint64_t disk_ = 0, foreign_ = 0, peak_ = 0;
  std::size_t times_frozen_ = 0;
  Clock::time_point next_listing_, idle_since_;
};

}  // namespace cw
