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
// adds up to the definition's calls (workload/distribution.h says how calls are apportioned). Lists
// can be long and distributions many, so neither is held in memory as JSON.
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

/// Of what is in memory of a file: for its readers, sections without their lists of workloads.
inline constexpr JsonLimits collection_limits{.depth = 64, .items = 1'000'000};

/// What a section says of a definition, without its list of workloads.
struct CollectedDefinition {
  Json head;                 ///< all but the two beside
  std::string distribution;  ///< as JSON text; empty: none

  /// Tells lists of workloads of one capture apart.
  std::string list() const { return string_member(head, "list"); }
};

/// A section without its lists of workloads.
struct CollectionSection {
  Json head;  ///< all but "definitions" and "simulated"; of "run" without its secrets
  std::map<std::string, CollectedDefinition> definitions;  ///< by name

  bool is_simulated = false;  ///< our own engine made it, without a model: no merge takes that away

  std::string id() const { return string_member(head, "id"); }
  /// As the file has it.
  Json marked_head() const;
};

/// An item of a section's list: `section` is its place in the file.
using VisitSeen =
    std::function<void(std::size_t section, const std::string& definition, Json item)>;

/// Whether readers take what was parsed from `path`, with or without its lists. Error code:
/// "collection_invalid".
Result<void> check_collection(const std::filesystem::path& path, const Json& file);

/// Reads DIR/collection.json; no sections when there is none. `visit` gets each item. Error codes:
/// "collection_invalid".
Result<std::vector<CollectionSection>> read_collection(const std::filesystem::path& root,
                                                       const VisitSeen& visit);

/// The dataset's collection.json, or an empty one; to be read before anything is written. Error
/// code "collection_invalid": it is not what its readers take, and is never overwritten.
Result<Json> known_collection(const std::filesystem::path& root);

/// The file with this section in it, in the place of an earlier one of the same capture.
Json with_section(Json collection, const SectionRecord& section);

/// Joins what two files say of one capture. Idempotent, and the same in any order and grouping: of
/// two values the one with more calls, then the greater text.
void join(CollectionSection& section, const CollectionSection& other);
/// The same for an item of a list. Calls that it stands for are of one list only: others say 0.
Json join_seen(Json item, Json other);

}  // namespace cw
