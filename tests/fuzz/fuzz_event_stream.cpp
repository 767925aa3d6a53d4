#include <cstdlib>
#include <string_view>

#include "traffic/event_stream.h"

// However the bytes are cut, the stream says the same.
extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  const std::string_view bytes(data, size);
  cw::EventStream whole, pieces;
  whole.take(bytes);
  for (std::size_t at = 0; at < size;) {
    const std::size_t length = 1 + static_cast<unsigned char>(data[at]) % 7;
    pieces.take(bytes.substr(at, length));
    at += length;
  }
  const auto a = whole.totals(), b = pieces.totals();
  if (whole.events() != pieces.events() || whole.is_garbage() != pieces.is_garbage() ||
      whole.is_done() != pieces.is_done() || whole.last() != pieces.last() || a.input != b.input ||
      a.output != b.output || a.error != b.error)
    std::abort();
  return 0;
}
