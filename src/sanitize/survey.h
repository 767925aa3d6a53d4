// Runs a capture through binding and collecting: every call is read, paired, bound and counted.
//
// A pipeline of stages over batches of calls. Calls that have to be read take five: take a batch
// (in order), read its records (parallel), pair runs with plans (in order: the state of wrappers),
// bind and hash (parallel), count (in order). Where a capture tells which calls are the same, the
// first and the third are one and few are read; an outcome is bound once and counted often. At most
// a few batches are in flight, and nothing of a call is kept but its counts.
#pragma once

#include <functional>
#include <set>

#include "bind/binder.h"
#include "capture/capture.h"
#include "sanitize/distinct_workloads.h"
#include "sanitize/storage_policy.h"
#include "sanitize/tally.h"
#include "workload/distribution.h"

namespace cw {

struct SurveyOptions {
  StoragePolicy policy;
  std::set<const Definition*> selected;  ///< empty: all
  bool reads_everything = false;         ///< also calls that no binding mentions, for inspect
  std::function<void(std::size_t calls_done)> progress = [](std::size_t) {};
  std::chrono::steady_clock::duration slowness{};  ///< for tests: extra time per call
  /// The capture no longer grows: the end of engine startup is searched for in it.
  bool is_whole = false;
  /// Called for every distinct workload when it is first seen, while its calls can still be read.
  std::function<void(const CallInContext&, const Target&, const Hash128& key)> on_distinct{};
};

/// The range of shapes seen for an argument.
struct ShapeRange {
  std::set<DType> dtypes;
  Shape min, max;  ///< per axis; empty for tensors without axes
  bool has_many_ranks = false;

  void add(DType dtype, const Shape& shape);
};

/// What was seen of an API function.
struct FunctionCounts {
  std::uint64_t calls = 0;
  std::uint64_t bound = 0;  ///< gave workloads
  /// Fit a definition, but the recorder's sample kept other index tensors instead of theirs.
  std::uint64_t sampled = 0;
  std::uint64_t rejected = 0;  ///< gave no workload; the tally says why
  std::uint64_t skipped = 0;   ///< no binding mentions it
  // Only with SurveyOptions::reads_everything:
  std::map<std::string, ShapeRange> shapes;  ///< by argument; items of a pair as "name.0"
  std::set<WrapperId> wrappers;
  /// What it fits: calls, with or without values, and calls by what had to be derived.
  struct Fit {
    std::uint64_t calls = 0;
    std::map<std::string, std::uint64_t> derived;
  };
  std::map<const Target*, Fit> fits;
};

struct DefinitionCounts {
  std::uint64_t calls = 0;  ///< calls that fit it
  /// Of these: without a workload, by reason (Observation::unseen).
  std::map<std::string, std::uint64_t> unseen;
  Distribution distribution;                     ///< of all of them
  std::map<std::string, std::uint64_t> derived;  ///< calls by what had to be derived
  /// Per var axis; both unknown_extent: not known yet.
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;
  std::uint64_t padded = 0;              ///< calls with batches padded with dummy sequences
  std::set<std::vector<int>> cells;      ///< octaves of the var axes that were seen
  std::uint64_t calls_at_last_cell = 0;  ///< `calls` when the last new one was seen
};

struct Survey {
  std::string continues;  ///< id of the capture that this one continues; empty: none
  std::uint64_t calls = 0;
  std::map<std::string, FunctionCounts> functions;
  std::map<const Target*, DefinitionCounts> definitions;
  std::set<std::string> flashinfer_versions;
  bool is_simulated = false;  ///< some call was made by our own engine
  std::set<WrapperId> processes;
  std::uint64_t graph_flushes = 0;
  DistinctWorkloads distinct;
  Tally tally;
};

/// Surveys a capture that may still grow: advance() takes the calls added since the last time, all
/// of them or as many as `deadline` allows. All references must outlive it.
class Surveyor {
 public:
  Surveyor(Capture& capture, const BindingSet& bindings, const Binder& binder,
           const SurveyOptions& options);
  ~Surveyor();
  /// Returns whether everything in the capture was taken.
  bool advance(Deadline deadline = Deadline::max());
  /// Sets whether calls taken from now on are made during engine startup, and so are not traffic.
  /// Initially they are not.
  void set_starting(bool is_starting);
  /// Continues from what an earlier process saw of the same collection; before the first advance().
  void restore(Survey survey);
  /// What was seen so far.
  const Survey& current() const;
  /// Takes the calls still waiting for another. Called once, at the end; what advance() did not get
  /// to is not taken.
  Survey finish();

 private:
  class Run;
  std::unique_ptr<Run> run_;
};

Survey survey(Capture& capture, const BindingSet& bindings, const Binder& binder,
              const SurveyOptions& options);

/// Reads a collected workload again. Error code "capture_changed" if the calls are gone or give a
/// different result.
Result<Workload> read_again(const Capture& capture, const Binder& binder, const Target& target,
                            const DistinctWorkload& entry, const StoragePolicy& policy);

}  // namespace cw
