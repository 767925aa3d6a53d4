#include <cstdlib>

#include "verify/verify.h"

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  const auto replay = cw::parse_replay({data, size}, [](const std::string& name) { return name.size() % 2 == 0; });
  if (replay && replay->passed + replay->failed + replay->skipped != replay->dumps) std::abort();
  return 0;
}
