// What is worth knowing of a dataset before it is offered to others: how it came about, how its
// workloads spread, what of it is new, and what was checked. The page, the Markdown and the JSON
// are made from this alone.
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
  /// Calls of this very content, over all captures; 0 where no capture lists it.
  std::uint64_t seen = 0;
  /// Calls that it represents; `seen` where a capture does not say it.
  std::uint64_t stands_for = 0;
  bool is_new = false;
};

/// How often a length occurs: sequences in all workloads, each as often as the calls that its
/// workload stands for (once if unknown). Bucket i counts lengths of [2^i, 2^(i+1)); empty
/// sequences are apart.
struct LengthHistogram {
  std::string input;  ///< the tensor they come from
  std::uint64_t empty = 0;
  std::vector<std::uint64_t> buckets;
  std::int64_t max_length = 0;
};

struct DefinitionSummary {
  std::string name, op_type;
  std::vector<std::string> models;    ///< of its tags
  std::vector<std::string> var_axes;  ///< in the definition's order
  std::vector<WorkloadSummary> workloads;
  std::vector<LengthHistogram> lengths;
  std::uint64_t calls = 0;                              ///< of all captures that fit it
  std::map<std::string, std::uint64_t> without_values;  ///< of them: gave no workload, by why
  Distribution distribution;  ///< of all of them; without cells where no capture says it
  /// Workloads that they found, over all captures; some may be counted by several.
  std::uint64_t distinct = 0;
  /// By input: calls whose value no record holds.
  std::map<std::string, std::uint64_t> derived_calls;
  std::map<std::string, std::string> derived_because;
  std::size_t added = 0;  ///< workloads that are new; all without a dataset to compare with
  std::size_t others = 0, undecided = 0;
  DefinitionState state = DefinitionState::missing;
  std::optional<DefinitionVerification> verification;  ///< of this very content
};

/// A section of collection.json.
struct CaptureSummary {
  SectionRecord section;                 ///< its defects with the most calls first
  std::vector<std::string> definitions;  ///< that it has calls of
  Json run;                              ///< section.run, as the file has it; null: none
};

struct Summary {
  std::vector<CaptureSummary> captures;
  std::vector<DefinitionSummary> definitions;  ///< those with workloads, by op type and name
  Json environment = Json::object();           ///< of the verification
  std::optional<ReplayVerification> replay;
  bool is_compared = false;  ///< with another dataset

  std::size_t workloads() const;
  std::size_t added() const;
  /// On which it was verified, in words; empty: it was not.
  std::string devices() const;
};

struct SummaryOptions {
  std::vector<std::string> definition_names, op_types;  ///< only these; empty: all
  /// What the dataset is meant for, compared already; nothing: all counts as new.
  const std::vector<DefinitionComparison>* comparison = nullptr;
  bool has_lengths = true;  ///< reads the index tensors, for their lengths
};

/// Error codes: those of reading the dataset, collection.json and verification.json.
Result<Summary> summarize(const Dataset& dataset, const SummaryOptions& options);

Json to_json(const Summary& summary);

/// Calls by the extents of one axis, in at most `max` parts, as people read them: ("16", 3840),
/// ("32 to 47", 12). Those whose extent is not known come last, as "not known".
std::vector<std::pair<std::string, std::uint64_t>> parts_of(const Histogram& of_axis,
                                                            std::size_t max);

/// The least, median and greatest extent over all calls; of an axis of which nothing is recorded,
/// over the workloads. Each as the least and the greatest that it may be: counts of many different
/// extents are of ranges of them.
struct AxisSpread {
  using Range = std::pair<std::int64_t, std::int64_t>;
  Range min, median, max;
};
AxisSpread spread_of(const DefinitionSummary& definition, std::size_t axis);

}  // namespace cw
