// Sorts byte strings that need not fit in memory.
//
// Records are gathered in a buffer; a full one is sorted and written to an unnamed temporary file,
// so that nothing is ever left behind. Then all runs are merged (Knuth, The Art of Computer
// Programming 3, 5.4.1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace cw {

/// add() all, then next() until there are no more. Records compare as unsigned bytes.
class ExternalSort {
 public:
  /// Temporary files go to `folder`; up to `memory` bytes are used before the first is written.
  explicit ExternalSort(std::filesystem::path folder, std::size_t memory = std::size_t{8} << 20);

  /// Error codes: "disk_full", "unwritable", "too_large" (a record past 4 GB).
  Result<void> add(std::string_view record);
  /// The next record in ascending order, valid until the next call; nothing after the last.
  Result<std::optional<std::string_view>> next();

 private:
  struct Place {
    std::size_t offset, size;
  };
  struct Run {
    FileDescriptor file;
    std::uint64_t position = 0, end = 0;  ///< of the part not yet in `buffer`
    std::string buffer;
    std::size_t used = 0;
    std::string record;
  };
  void sort();
  Result<void> spill();
  Result<void> begin_reading();
  Result<bool> advance(Run& run);  ///< false: the run has ended

  std::filesystem::path folder_;
  std::size_t memory_;
  std::string buffer_;
  std::vector<Place> places_;
  std::vector<Run> runs_;
  std::vector<std::size_t> heap_;  ///< runs, the one with the smallest record on top
  bool is_reading_ = false;
  std::size_t next_ = 0;  ///< index into `places_`, if everything fits in memory
};

/// Record fields encoded so that records sort by one field after the other: text without zero
/// bytes, or a number. take_…() removes what put() appended; it must be there.
inline constexpr std::size_t number_size = 8;
void put(std::string& record, std::string_view text);
void put(std::string& record, std::uint64_t number);
std::string_view take_text(std::string_view& record);
std::uint64_t take_number(std::string_view& record);

}  // namespace cw
