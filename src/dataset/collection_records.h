// The types of collection.json: how a dataset's workloads were collected, how often each was seen,
// and what went wrong. All code that reads or writes a part of it uses these.
//
// to_json() gives the members in the file's order, and omits those that have the value shown in
// brackets in their comment. from_json() accepts untrusted files: a member that is missing or of
// another type gets its initial value, and numbers are clamped to what could have been counted.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "workload/distribution.h"

namespace cw {

/// Calls to one API function, by outcome.
struct FunctionRecord {
  std::uint64_t calls = 0;
  std::uint64_t bound = 0;     ///< gave workloads
  std::uint64_t sampled = 0;   ///< fit a definition, but their index tensors were sampled out
  std::uint64_t rejected = 0;  ///< gave no workload; a defect says why
  std::uint64_t skipped = 0;   ///< no binding covers the function

  Json to_json() const;
  static FunctionRecord from_json(const Json& json);
};

/// Calls that gave no workload, or something else that went wrong.
struct DefectRecord {
  std::string name, severity;
  std::uint64_t count = 0;
  std::string function, detail, example;  ///< [empty]

  Json to_json() const;
  static DefectRecord from_json(const Json& json);
};

/// How workloads were chosen and stored.
struct OptionsRecord {
  std::string select;  ///< "all", "diverse"
  std::size_t num_samples = 0;
  std::string num_pages;  ///< "used", "pool", "compact"
  std::vector<std::string> keep_values;
  bool includes_suspicious = false;           ///< [false]
  std::optional<std::uint64_t> random_below;  ///< [none]

  Json to_json() const;
};

/// A workload that was kept.
struct WorkloadRecord {
  std::string id;
  std::uint64_t seen = 0;                 ///< calls with exactly this content: layers times steps
  std::vector<std::string> derived;       ///< [empty] what was not recorded
  std::optional<std::int64_t> sequences;  ///< [none] real ones in a padded batch
  bool is_suspicious = false;             ///< [false] looks like an engine's warm-up
  bool is_capture_warmup = false;         ///< [false] seen only while CUDA graphs were captured
  /// Calls that it represents; over a list they add up to the definition's.
  std::uint64_t stands_for = 0;

  Json to_json() const;
};

/// A definition that was collected.
struct DefinitionRecord {
  std::uint64_t calls = 0;
  std::string status;  ///< without calls: why there are none; then no other members
  std::map<std::string, std::uint64_t> without_values;  ///< calls without a workload, by reason
  std::uint64_t distinct = 0;                           ///< distinct workloads among the calls
  std::map<std::string, std::uint64_t> derived_calls;   ///< by input
  std::map<std::string, std::string>
      derived_because;        ///< by input: where its default is documented
  Distribution distribution;  ///< of all calls
  std::vector<WorkloadRecord> workloads;
  std::uint64_t padded_calls = 0;  ///< [0] with batches padded by the engine

  Json to_json() const;
  /// Without distribution and workloads, which are read separately (collection_file.h).
  static DefinitionRecord from_json(const Json& json);
};

/// One schedule of a run's traffic.
struct ScheduleRecord {
  std::size_t concurrency = 0;
  double rate = 0;
  bool follows_arrivals = false;
  std::size_t requests = 0;
  std::optional<std::size_t> reached;  ///< [none] requests whose turn came

  Json to_json() const;
};

/// What readers need of a run's traffic report (traffic/traffic.h).
struct TrafficRecord {
  double completed = 0, sent = 0, input_tokens = 0, output_tokens = 0, seconds = 0;

  static TrafficRecord from_json(const Json& json);
};

/// A sample of a run's state.
struct TimelineSample {
  double seconds = 0;  ///< since the engine was started
  std::uint64_t requests = 0, output_tokens = 0, calls = 0, disk_bytes = 0, under_way = 0;
};

/// How a run went, in a few samples: {"columns": ["s", "requests", …], "samples": [[0.2, 0, …],
/// …]}.
struct TimelineRecord {
  std::vector<TimelineSample> samples;

  Json to_json() const;
  static TimelineRecord from_json(const Json& json);
};

/// An engine run: how a capture was made.
struct RunRecord {
  std::string engine;
  bool is_simulated = false;
  std::string version, model;
  int tensor_parallel = 0;
  std::string profile;
  std::vector<std::string> command;
  std::vector<std::pair<std::string, std::string>> environment;
  std::string capture;  ///< the capture method
  std::string started;  ///< UTC, 20261125T173000Z
  std::string prompts;
  std::vector<ScheduleRecord> schedules;
  std::uint64_t disk_budget = 0;           ///< bytes
  Json capture_settings = Json::object();  ///< members that the capture method adds
  Json traffic;                            ///< as in its report; null: none
  std::optional<double> ready_seconds;     ///< until the engine was serving
  TimelineRecord timeline;
  std::optional<std::uint64_t> peak_disk;  ///< bytes of the capture
  std::size_t times_frozen = 0;
  bool is_saturated = false, is_interrupted = false;
  std::optional<std::size_t> resumed_after;  ///< [none] requests
  std::size_t sent_twice = 0;                ///< [0] requests
  std::string failure;                       ///< [empty] an error's code: it ended early
  Json server = Json::object();              ///< [empty] what the server says about itself

  Json to_json() const;
  static RunRecord from_json(const Json& json);
};

/// The section of one capture.
struct SectionRecord {
  std::string id;
  std::string source;            ///< the capture method
  bool is_simulated = false;     ///< [false] made by an engine without a model
  std::optional<RunRecord> run;  ///< [none]
  std::set<std::string> flashinfer_versions;
  std::size_t processes = 0;
  std::uint64_t calls = 0, graph_flushes = 0;
  OptionsRecord options;
  std::map<std::string, FunctionRecord> functions;
  std::vector<std::pair<std::string, DefinitionRecord>> definitions;  ///< in the file's order
  std::vector<DefectRecord> defects;

  /// Without secrets.
  Json to_json() const;
  /// Without definitions.
  static SectionRecord from_json(const Json& json);
};

}  // namespace cw
