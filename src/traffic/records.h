// Records of a file of prompts, one by one, without holding the file:
//
//   JSON array    [RECORD, …]
//   JSON lines    a record a line; a line that is none is counted and left out, and the rest of the file still read
//   wrapped       {"data": [RECORD, …]}, also "rows", "prompts", … and after other members
//   objects       one after the other, printed over several lines
//   CSV           RFC 4180 with a header; a row is an object of texts
//
// Python's NaN and Infinity, which JSON has not, are null.
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
  /// Error codes: "not_found", "prompts_malformed" (empty, compressed, or none of these), and those of reading.
  static Result<RecordReader> open(const std::filesystem::path& path);
  RecordReader(RecordReader&&) noexcept;
  RecordReader& operator=(RecordReader&&) noexcept;
  ~RecordReader();

  /// The next record; nothing at the end. Error codes: "prompts_malformed" (longer than any), and those of reading.
  Result<std::optional<Json>> next();

  /// So far: records that are no JSON.
  std::size_t broken() const;
  /// The file ends within a record.
  bool is_cut_off() const;

 private:
  struct State;
  explicit RecordReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace cw
