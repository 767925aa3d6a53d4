#include <cstdlib>

#include "capture/level10/metadata.h"

// What a reader remembers of earlier inputs does not show.
extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  static cw::level10::RecordReader reader;
  std::string padded(data, size);
  padded.resize(size + 64);
  const std::string_view content = std::string_view(padded).substr(0, size);

  const auto once = cw::level10::parse_last_record(content);
  const auto again = reader.last_record(content, 0);
  if (once.has_value() != again.has_value()) std::abort();
  const bool has_nan = content.find("NaN") != std::string_view::npos;  // which equals nothing
  if (once && !has_nan && *once != **again) std::abort();
  return 0;
}
