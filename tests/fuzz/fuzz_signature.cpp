#include "capture/signature.h"

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  if (const auto signature = cw::parse_signature({data, size}))
    for (std::size_t i = 0; i < 8; ++i) (void)signature->positional(i);
  return 0;
}
