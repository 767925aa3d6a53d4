#include "capture/level10/metadata.h"

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  std::string padded(data, size);
  padded.resize(size + 64);
  (void)cw::level10::parse_last_record(std::string_view(padded).substr(0, size));
  return 0;
}
