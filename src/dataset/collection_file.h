// collection.json beside a dataset's workloads: one section per capture they were collected from.
//
//   {"format": 1,
//    "captures": [{"id": …, "simulated": true [false], …
//                  "definitions": {NAME: {"calls": …, …, "distribution": {…}, "list": …
//                                         "workloads": [{"uuid": …, "seen": …, "stands_for": …},
//                                         …]}},
//                  …}]}
//
// `seen` counts the calls with exactly a workload's content. What the workloads of a list stand for
// adds up to the definition's calls (see workload/distribution.h for how calls are apportioned).
// Lists can be long and distributions numerous, so neither is held in memory as JSON.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "dataset/collection_records.h"

namespace cw {

inline constexpr const char* collection_file = "collection.json";

/// Limits on what is held in memory of a file: sections without their lists of workloads.
inline constexpr JsonLimits collection_limits{.depth = 64, .items = 1'000'000};

/// What a section says about a definition, without its list of workloads.
struct CollectedDefinition {
  Json head;                 ///< everything but the distribution and the list
  std::string distribution;  ///< as JSON text; empty: none

  /// Distinguishes lists of workloads from the same capture.
  std::string list() const { return string_member(head, "list"); }
};

/// A section without its lists of workloads.
struct CollectionSection {
  Json head;  ///< all but "definitions" and "simulated"; secrets removed from "run"
  std::map<std::string, CollectedDefinition> definitions;  ///< by name

  bool is_simulated = false;  ///< made by our own engine, without a model: survives every merge

  std::string id() const { return string_member(head, "id"); }
  /// As stored in the file.
  Json marked_head() const;
};

/// Visits an item of a section's list: `section` is its index in the file.
using VisitSeen =
    std::function<void(std::size_t section, const std::string& definition, Json item)>;

/// Checks that what was parsed from `path` is valid for readers, with or without its lists. Error
/// code: "collection_invalid".
Result<void> check_collection(const std::filesystem::path& path, const Json& file);

/// Reads DIR/collection.json; no sections if it does not exist. `visit` gets each item. Error
/// codes: "collection_invalid".
Result<std::vector<CollectionSection>> read_collection(const std::filesystem::path& root,
                                                       const VisitSeen& visit);

/// The dataset's collection.json, or an empty one; to be read before anything is written. Error
/// code "collection_invalid": readers would reject it, and it is never overwritten.
Result<Json> known_collection(const std::filesystem::path& root);

/// The file with this section in it, replacing an earlier one of the same capture.
Json with_section(Json collection, const SectionRecord& section);

/// Joins what two files say about one capture. Idempotent, commutative and associative: of two
/// values, the one with more calls wins, then the greater text.
void join(CollectionSection& section, const CollectionSection& other);
/// The same for an item of a list. The calls it stands for belong to one list only: others say 0.
Json join_seen(Json item, Json other);

}  // namespace cw
