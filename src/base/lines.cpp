#include "base/lines.h"

#include <algorithm>

#include <fcntl.h>

namespace cw {
namespace {

constexpr std::size_t block = std::size_t{256} << 10;
constexpr std::size_t max_length = max_line_length;

}  // namespace

Result<LineReader> LineReader::open(const std::filesystem::path& path) {
  LineReader reader;
  reader.name_ = path.string();
  CW_TRY(reader.file_, open_for_reading(AT_FDCWD, reader.name_));
  CW_TRY(reader.size_, file_size(reader.file_, reader.name_));
  return reader;
}

Result<std::optional<Line>> LineReader::next() {
  for (std::size_t searched = used_;;) {
    const std::size_t end = buffer_.find('\n', searched);
    const bool is_last = position_ == size_;

    // The rest of the line is in the next block.
    if (end == std::string::npos && !is_last) {
      buffer_.erase(0, used_);
      searched = buffer_.size();
      used_ = 0;
      if (searched > max_length)
        return fail("too_large", "{}, line {}: longer than {} bytes", name_, number_ + 1,
                    max_length);
      const auto more = static_cast<std::size_t>(std::min<std::uint64_t>(block, size_ - position_));
      buffer_.resize(searched + more);
      CW_CHECK(read_exactly(file_, position_, more, buffer_.data() + searched, name_));
      position_ += more;
      continue;
    }

    if (end == std::string::npos && used_ == buffer_.size()) return std::optional<Line>();
    const std::size_t stop = std::min(end, buffer_.size());
    const std::string_view text = std::string_view(buffer_).substr(used_, stop - used_);
    const std::uint64_t offset = position_ - (buffer_.size() - used_);
    used_ = std::min(stop + 1, buffer_.size());
    searched = used_;
    ++number_;

    if (text.find_first_not_of(" \t\r") != std::string_view::npos)
      return std::optional(Line{text, offset, number_});
  }
}

}  // namespace cw
