// What is worth knowing about a dataset before it is submitted: how it was made, how its workloads
// are distributed, what is new in it, and what was checked. The page, the Markdown and the JSON are
// made from this alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "dataset/collection_records.h"
#include "dataset/comparison.h"
#include "dataset/dataset.h"
#include "dataset/verification_file.h"
#include "workload/distribution.h"

namespace cw {

struct WorkloadSummary {
  std::string id;
  std::vector<std::int64_t> axes;  ///< as DefinitionSummary::var_axes
  /// Calls with exactly this content, over all captures; 0 if no capture lists it.
  std::uint64_t seen = 0;
  /// Calls that it represents; `seen` if a capture does not say.
  std::uint64_t stands_for = 0;
  bool is_new = false;
};

/// How often a length occurs: sequences in all workloads, each weighted by the calls that its
/// workload stands for (1 if unknown). Bucket i counts lengths in [2^i, 2^(i+1)); empty sequences
/// are counted separately.
struct LengthHistogram {
  std::string input;  ///< the tensor they come from
  std::uint64_t empty = 0;
  std::vector<std::uint64_t> buckets;
  std::int64_t max_length = 0;
};

struct DefinitionSummary {
  std::string name, op_type;
  std::vector<std::string> models;    ///< from its tags
  std::vector<std::string> var_axes;  ///< in the definition's order
  std::vector<WorkloadSummary> workloads;
  std::vector<LengthHistogram> lengths;
  std::uint64_t calls = 0;                              ///< calls that fit it, over all captures
  std::map<std::string, std::uint64_t> without_values;  ///< of these: without a workload, by reason
  Distribution distribution;  ///< of all calls; without cells if no capture has it
  /// Distinct workloads, summed over all captures; some may be counted by several.
  std::uint64_t distinct = 0;
  /// By input: calls whose value was not recorded.
  std::map<std::string, std::uint64_t> derived_calls;
  std::map<std::string, std::string> derived_because;
  std::size_t added = 0;  ///< new workloads; all, without a dataset to compare with
  std::size_t others = 0, undecided = 0;
  DefinitionState state = DefinitionState::missing;
  std::optional<DefinitionVerification> verification;  ///< of exactly this content
};

/// A section of collection.json.
struct CaptureSummary {
  SectionRecord section;                 ///< its defects sorted by calls, most first
  std::vector<std::string> definitions;  ///< those with calls in it
  Json run;                              ///< section.run, as in the file; null: none
};

struct Summary {
  std::vector<CaptureSummary> captures;
  std::vector<DefinitionSummary> definitions;  ///< those with workloads, by op type and name
  Json environment = Json::object();           ///< of the verification
  std::optional<ReplayVerification> replay;
  bool is_compared = false;  ///< with another dataset

  std::size_t workloads() const;
  std::size_t added() const;
  /// The devices it was verified on, in words; empty: it was not.
  std::string devices() const;
};

struct SummaryOptions {
  std::vector<std::string> definition_names, op_types;  ///< only these; empty: all
  /// The comparison with the target dataset; null: everything counts as new.
  const std::vector<DefinitionComparison>* comparison = nullptr;
  bool has_lengths = true;  ///< reads the index tensors to get sequence lengths
};

/// Error codes: those of reading the dataset, collection.json and verification.json.
Result<Summary> summarize(const Dataset& dataset, const SummaryOptions& options);

Json to_json(const Summary& summary);

/// Calls by the extents of one axis, in at most `max` parts, human-readable: ("16", 3840),
/// ("32 to 47", 12). Those whose extent is unknown come last, as "not known".
std::vector<std::pair<std::string, std::uint64_t>> parts_of(const Histogram& of_axis,
                                                            std::size_t max);

/// The minimum, median and maximum extent over all calls, or over the workloads for an axis without
/// recorded calls. Each is a range of possible values, because counts of many different extents are
/// kept for ranges.
struct AxisSpread {
  using Range = std::pair<std::int64_t, std::int64_t>;
  Range min, median, max;
};
AxisSpread spread_of(const DefinitionSummary& definition, std::size_t axis);

}  // namespace cw
