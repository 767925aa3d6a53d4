// The records that merge sorts: their encoded bytes sort in the order given in each comment.
// decode() reverses encode().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/external_sort.h"
#include "base/result.h"

namespace cw {

/// The position of a line of a workloads file.
struct LinePlace {
  std::uint64_t input = 0;             ///< index of the dataset among the inputs
  std::uint64_t offset = 0, size = 0;  ///< in bytes
};

/// A workload in one input: by content, id, and the hashes that break ties.
struct InputLine {
  std::string content, id;
  std::uint64_t line_hash = 0, blobs_hash = 0;
  LinePlace place;
  std::vector<std::int64_t> var_axes;

  std::string encode() const;
  static InputLine decode(std::string_view record);
};

/// A distinct workload: by its var axes, which is the order of a workloads file, then its content.
struct DistinctLine {
  std::vector<std::int64_t> var_axes;
  std::string content;
  LinePlace place;
  std::string id;

  std::string encode() const;
  static DistinctLine decode(std::string_view record, std::size_t num_axes);
};

/// A workload's id in the result: by its id in an input.
struct RenamedId {
  std::string id, chosen;

  std::string encode() const;
  static RenamedId decode(std::string_view record);
};

/// What an id is used for: by id.
struct UsedId {
  std::string id, definition, content;

  std::string encode() const;
  static UsedId decode(std::string_view record);
};

/// An item of a list in one input's collection.json: by definition and id.
struct SeenItem {
  std::string definition, id;
  std::uint64_t input = 0, section = 0;  ///< where it was read
  std::string json;

  std::string encode() const;
  static SeenItem decode(std::string_view record);
};

/// An item of a list of the result: by capture, definition and id.
struct ListedItem {
  std::string capture, definition, id;
  std::string json;

  std::string encode() const;
  static ListedItem decode(std::string_view record);
};

/// The next record of a sort, decoded; nothing after the last.
template <typename Record, typename... More>
Result<std::optional<Record>> next_of(ExternalSort& sort, More... more) {
  CW_TRY(const auto record, sort.next());
  if (!record) return std::nullopt;
  return Record::decode(*record, more...);
}

}  // namespace cw
