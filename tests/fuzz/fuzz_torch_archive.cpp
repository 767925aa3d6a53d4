#include <cstdio>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "capture/level10/tensor_file.h"
#include "tensor/shape.h"

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  static const int memory = ::memfd_create("fuzz", 0);
  if (::ftruncate(memory, 0) != 0 || ::pwrite(memory, data, size, 0) < 0) return 0;
  const std::string path = "/proc/self/fd/" + std::to_string(memory);
  const auto file = cw::level10::open_torch_archive(AT_FDCWD, path, path);
  if (!file) return 0;
  for (std::size_t i = 0; i < (*file)->entries().size() && i < 8; ++i)
    if (const auto count = cw::element_count((*file)->entries()[i].shape); count && *count < 4096)
      (void)(*file)->read(i, *count);
  return 0;
}
