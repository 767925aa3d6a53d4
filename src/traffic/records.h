// The records of a prompt file, one at a time, without holding the file in memory:
//
//   JSON array   [RECORD, …
//   JSON lines   one record per line; a line that is not a record is counted and skipped
//   wrapped      {"data": [RECORD, …]}, also "rows", "prompts", … and after other members
//   objects      one after another, each spanning several lines
//   CSV          RFC 4180 with a header; a row is an object of strings
//
// Python's NaN and Infinity, which JSON does not have, are read as null.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/json.h"
#include "base/result.h"

namespace cw {

class RecordReader {
 public:
  /// Error codes: "not_found", "prompts_malformed" (empty, compressed, or none of these), and those
  /// of reading.
  static Result<RecordReader> open(const std::filesystem::path& path);
  RecordReader(RecordReader&&) noexcept;
  RecordReader& operator=(RecordReader&&) noexcept;
  ~RecordReader();

  /// The next record; nothing at the end. Error codes: "prompts_malformed" (too long), and
  /// those of reading.
  Result<std::optional<Json>> next();

  /// The number of records so far that are not JSON.
  std::size_t broken() const;
  /// Whether the file ends in the middle of a record.
  bool is_cut_off() const;

 private:
  struct State;
  explicit RecordReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace cw
