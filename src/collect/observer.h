// How a collection reports its progress to the user interface.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/process.h"
#include "capture/method.h"
#include "sanitize/sanitize.h"

namespace cw {

struct CapturePlan;
struct EngineRun;
struct EngineRunOutcome;

/// An engine run, as shown to people.
struct RunView {
  std::size_t index = 0, count = 1;  ///< run `index` of `count`
  const EngineRun* run = nullptr;
  const CaptureMethod* method = nullptr;
  Command command;  ///< as started
  std::string url;
  std::filesystem::path log, dumps;
  bool keeps_dumps = false;
  std::uint64_t disk_budget = 0;  ///< bytes
};

/// How a run is getting on.
struct CollectProgress {
  std::size_t requests = 0, done = 0, failed = 0, under_way = 0;
  std::uint64_t output_tokens = 0, calls = 0;
  double tokens_per_second = 0;
  std::uint64_t disk = 0;  ///< bytes of the capture
  bool is_frozen = false;  ///< the engine waits until dumps are processed
  std::string why_none;    ///< why calls have given no workload yet; empty if some have
  std::vector<Progress> definitions;
};

class CollectObserver {
 public:
  virtual ~CollectObserver() = default;

  /// Something the user should know.
  virtual void note(const std::string& /*text*/) {}
  /// A step is done.
  virtual void done(const std::string& /*text*/) {}
  /// A command that changes something is about to run.
  virtual void command(const std::string& /*text*/) {}
  /// Asks a yes/no question.
  virtual bool confirms(const std::string& /*question*/) { return false; }

  /// What would be run, before anything is looked up on this machine.
  virtual void planned(const CapturePlan& /*plan*/) {}
  /// The same, with the flags fitted to the installed engine.
  virtual void prepared(const CapturePlan& /*plan*/) {}

  virtual void starting(const RunView& /*run*/) {}
  /// While the engine loads: its last log line.
  virtual void loading(const std::string& /*line*/) {}
  /// The engine is serving.
  virtual void ready(const RunView& /*run*/, double /*seconds*/) {}
  virtual void running(const RunView& /*run*/, const CollectProgress& /*progress*/) {}
  virtual void ended(const RunView& /*run*/, const EngineRunOutcome& /*outcome*/) {}
};

}  // namespace cw
