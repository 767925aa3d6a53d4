#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include "traffic/prompts.h"

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  static const int memory = ::memfd_create("fuzz", 0);
  if (::ftruncate(memory, 0) != 0 || ::pwrite(memory, data, size, 0) < 0) return 0;
  const cw::Turns turns = size % 2 == 0 ? cw::Turns::all : cw::Turns::last;
  const auto source = cw::open_prompts({"/proc/self/fd/" + std::to_string(memory)}, turns);
  if (!source) return 0;
  for (auto prompt = (*source)->next(); prompt && *prompt; prompt = (*source)->next())
    (void)(*prompt)->text();
  (void)(*source)->warning();
  return 0;
}
