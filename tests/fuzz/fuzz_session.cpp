#include <cstdlib>
#include <string_view>

#include "capture/level10/dump_capture.h"
#include "capture/level10/session.h"

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  const std::string_view line(data, size);
  const auto entry = cw::level10::session_entry(line);
  for (const std::string_view part : {entry.name, entry.status})
    if (!part.empty() && (part.data() < data || part.data() + part.size() > data + size))
      std::abort();
  (void)cw::level10::DumpCapture::process_of(entry.name);
  return 0;
}
