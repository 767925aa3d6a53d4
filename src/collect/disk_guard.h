// Keeps a capture that does not limit itself within the disk budget of its run.
//
// Dumps are deleted as soon as they are bound. Above half of the budget, new requests wait and the
// engine is frozen (SIGSTOP) until the dumps are processed; if that does not help, the run ends
// with what it has.
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
  bool keeps_dumps = false;      ///< nothing is deleted: the budget is just a limit
};

class DiskGuard {
 public:
  explicit DiskGuard(DiskGuardOptions options) : options_(std::move(options)) {}

  /// Called after each slice of watching: measures, and pauses or resumes traffic and engine.
  /// Error code "disk_budget": nothing helps.
  Result<void> look(const Watcher& watcher, const Polled& polled, Engine& engine,
                    TrafficControl& traffic);
  /// Resumes a frozen engine.
  void thaw(Engine& engine, TrafficControl& traffic);

  std::uint64_t disk() const { return disk_; }  ///< bytes, as last measured
  std::uint64_t peak() const { return peak_; }  ///< the maximum seen
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
