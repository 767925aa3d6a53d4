// Frames, records, groups of calls and arguments of a recording. The input is a file's content; as fuzzers do not find
// checksums, each of its lines is also taken for a payload, framed here.
#include <cstdlib>
#include <fstream>

#include <unistd.h>

#include "capture/recording/recording_capture.h"
#include "recording/frame.h"

namespace {

void read_all(const std::string& content) {
  static const std::string path = "/tmp/fuzz_recording-" + std::to_string(::getpid()) + ".cbor";
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  const auto capture = cw::recording::RecordingCapture::open({path});
  if (!capture) return;
  for (std::size_t i = 0; i < (*capture)->size(); ++i) {
    (void)(*capture)->location(i);
    (void)(*capture)->process(i);
    if (const auto call = (*capture)->read(i))
      for (const auto& [name, value] : call->arguments)
        if (const cw::Tensor* tensor = value.tensor()) (void)cw::read_front(*tensor, 16);
  }
  (void)(*capture)->id();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  const std::string_view input(data, size);
  read_all(std::string(input));
  // A header, a site and a form, so that what follows has something to refer to; then the input's parts.
  using nlohmann::json;
  std::string content;
  const auto add = [&content](const json& record) {
    std::string payload;
    json::to_cbor(record, payload);
    content += cw::recording::make_frame(payload);
  };
  add({{"record", "recording"}, {"format", 1}, {"process", 1}});
  add({{"record", "site"}, {"site", 0}, {"function", "f"}, {"module", "m"}, {"signature", "(a, b)"}});
  add({{"record", "form"}, {"form", 0}, {"site", 0}, {"arguments", {{"a", {{"dtype", "int32"}, {"shape", {4}}}}}}});
  for (std::size_t begin = 0; begin < size;) {
    const std::size_t end = std::min(input.find('\n', begin), size);
    content += cw::recording::make_frame(input.substr(begin, end - begin));
    begin = end + 1;
  }
  read_all(content);
  return 0;
}
