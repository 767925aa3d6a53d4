#include "tensor/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  std::string padded(data, size);
  padded.resize(size + 64);
  const std::string_view file = std::string_view(padded).substr(0, size);
  const auto header = cw::safetensors_header_size(file, size);
  if (header) (void)cw::parse_safetensors_header(file.substr(8, *header), size);
  // Most inputs fail at the length; the rest of the reader deserves some too.
  (void)cw::parse_safetensors_header(file, size + 8 + 1024);
  return 0;
}
