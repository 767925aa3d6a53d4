// Lines of a file of any size, one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"

namespace cw {

struct Line {
  std::string_view text;  ///< without its newline; valid until the next call of next()
  std::uint64_t offset;   ///< of its first byte in the file
  std::size_t number;     ///< from 1
};

/// How much of a file is read before its lines are handed to several threads, whichever comes
/// first.
inline constexpr std::size_t batch_lines = 512;
inline constexpr std::size_t batch_bytes = std::size_t{4} << 20;

/// A real workload's line has about a thousand bytes: tensors are in blobs.
inline constexpr std::size_t max_line_length = std::size_t{1} << 20;

class LineReader {
 public:
  /// Error codes: "not_found", "unreadable".
  static Result<LineReader> open(const std::filesystem::path& path);

  /// The next non-blank line; nothing after the last. Error codes:
  /// "too_large" (a line past max_line_length), and those of reading.
  Result<std::optional<Line>> next();

 private:
  std::string name_;
  FileDescriptor file_;
  std::uint64_t size_ = 0, position_ = 0;  ///< position: of the part not yet in the buffer
  std::string buffer_;
  std::size_t used_ = 0;
  std::size_t number_ = 0;
};

}  // namespace cw
