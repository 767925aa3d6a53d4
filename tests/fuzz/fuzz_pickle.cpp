#include "capture/level10/pickle.h"

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  (void)cw::level10::parse_pickled_tensors({data, size});
  return 0;
}
