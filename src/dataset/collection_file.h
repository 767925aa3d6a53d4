// collection.json beside a dataset's workloads: one section for each capture they were collected from.
//
//   {"format": 1, "captures": [{"id": …, "simulated": true [false], …, "definitions": {NAME: {…, "workloads": [{"uuid":
//   …, "seen": …}, …]}}, …}]}
//
// The lists of workloads can be long; here they are never in memory whole.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "base/json.h"
#include "base/result.h"

namespace cw {

inline constexpr const char* collection_file = "collection.json";

/// Of what is in memory of a file: for its readers, sections without their lists of workloads.
inline constexpr JsonLimits collection_limits{.depth = 64, .items = 1'000'000};

/// A section without its lists of workloads.
struct CollectionSection {
  Json head;                                ///< all but "definitions" and "simulated"; of "run" without its secrets
  std::map<std::string, Json> definitions;  ///< by name, without "workloads"

  bool is_simulated = false;  ///< our own engine made it, without a model: no merge takes that away

  std::string id() const { return string_member(head, "id"); }
  /// As the file has it.
  Json marked_head() const;
};

/// An item of a section's list: `section` is its place in the file.
using VisitSeen = std::function<void(std::size_t section, const std::string& definition, Json item)>;

/// Whether readers take what was parsed from `path`, with or without its lists. Error code: "collection_invalid".
Result<void> check_collection(const std::filesystem::path& path, const Json& file);

/// Reads DIR/collection.json; no sections when there is none. `visit` gets each item. Error codes:
/// "collection_invalid".
Result<std::vector<CollectionSection>> read_collection(const std::filesystem::path& root, const VisitSeen& visit);

/// Joins what two files say of one capture. Idempotent, and the same in any order and grouping: of two values the one
/// with more calls, then the greater text.
void join(CollectionSection& section, const CollectionSection& other);
/// The same for an item of a list.
Json join_seen(Json item, const Json& other);

}  // namespace cw
