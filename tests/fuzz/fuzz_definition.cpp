#include "definition/definition.h"

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  if (const auto definition = cw::parse_definition({data, size}, "fuzz")) (void)definition->apis();
  return 0;
}
