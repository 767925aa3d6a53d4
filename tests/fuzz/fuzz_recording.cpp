// Frames, records, groups of calls and arguments of a recording. The input is a file's content, and
// the mutator keeps its checksums right: it changes the payloads and their order, seldom the
// frames.
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <random>
#include <vector>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "capture/recorder/cbor.h"
#include "capture/recorder/recording_capture.h"
#include "recording/frame.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max);

namespace {

using cw::recording::frame_header_size;
using cw::recording::make_frame;
using cw::recording::read_frame;

// A recording that has all kinds of records: what there is to begin with.
std::string small_recording() {
  using nlohmann::json;
  std::string content;
  const auto add = [&content](const json& record) {
    std::string payload;
    json::to_cbor(record, payload);
    content += make_frame(payload);
  };
  add({{"record", "recording"}, {"format", 1}, {"process", 1}});
  add({{"record", "site"},
       {"site", 0},
       {"function", "f"},
       {"module", "m"},
       {"signature", "(a, b)"}});
  // Forms that differ in the length of a list, or leave it to their calls, whose values were not
  // kept.
  json calls = json::array();
  for (const int form : {0, 1, 2}) {
    const json list = {{"dtype", "int32"}, {"shape", {form == 2 ? json() : json(4 + form)}}};
    add({{"record", "form"},
         {"form", form},
         {"site", 0},
         {"arguments", json::array({json::array({"a", list})})}});
    const std::vector<std::uint8_t> hash(16, static_cast<std::uint8_t>(1 + form));
    const json values = {
        {"tensor", 0}, {"count", 4 + form}, {"hash", json::binary(hash)}, {"state", "sampled_out"}};
    calls.push_back({{"form", form}, {"count", 2}, {"values", json::array({values})}});
  }
  add({{"record", "calls"}, {"at", 1}, {"calls", calls}});
  return content;
}

std::vector<std::string> payloads_of(std::string_view content) {
  std::vector<std::string> payloads;
  while (!content.empty()) {
    const auto frame = read_frame(content);
    if (frame.size == 0) break;
    if (frame.status == cw::recording::Frame::Status::whole) payloads.emplace_back(frame.payload);
    content.remove_prefix(std::min(frame.size, content.size()));
  }
  return payloads;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max, unsigned seed) {
  std::minstd_rand random(seed);
  const auto below = [&random](std::size_t limit) { return random() % limit; };
  if (below(32) == 0) return LLVMFuzzerMutate(data, size, max);

  auto payloads = payloads_of({reinterpret_cast<const char*>(data), size});
  if (payloads.empty()) payloads = payloads_of(small_recording());
  const std::size_t which = below(payloads.size());
  switch (below(8)) {
    case 0:
      payloads.push_back(payloads[which]);
      break;
    case 1:
      std::swap(payloads[which], payloads[below(payloads.size())]);
      break;
    case 2:
      payloads.erase(payloads.begin() + static_cast<std::ptrdiff_t>(which));
      break;
    default: {
      std::string& payload = payloads[which];
      const std::size_t before = payload.size(), max_size = before + 64;
      payload.resize(max_size);
      payload.resize(
          LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(payload.data()), before, max_size));
    }
  }

  // As many as fit.
  std::size_t end = 0;
  for (const std::string& payload : payloads) {
    if (end + frame_header_size + payload.size() > max) break;
    const std::string frame = make_frame(payload);
    std::copy(frame.begin(), frame.end(), data + end);
    end += frame.size();
  }
  return end;
}

// What the fast way decodes, the way for any form parses to the same.
void compare_decoders(std::string_view content) {
  using namespace cw::recording;
  for (const std::string& payload : payloads_of(content)) {
    CallGroups decoded, parsed;
    if (!decode_calls(payload, decoded)) continue;
    if (!is_plain_cbor(payload)) std::abort();
    parse_calls(payload, parsed);
    if (decoded.groups.size() != parsed.groups.size() || decoded.addresses != parsed.addresses ||
        decoded.values.size() != parsed.values.size() || !parsed.wrong.empty())
      std::abort();
    for (std::size_t i = 0; i < parsed.groups.size(); ++i) {
      const CallGroup &a = decoded.groups[i], &b = parsed.groups[i];
      if (a.signature != b.signature || a.wrapper != b.wrapper || a.count != b.count ||
          a.raised != b.raised || a.sequences != b.sequences || a.is_dummy != b.is_dummy ||
          a.is_nested != b.is_nested || a.is_replayed != b.is_replayed || a.begin != b.begin ||
          a.size != b.size)
        std::abort();
    }
    for (std::size_t i = 0; i < parsed.values.size(); ++i) {
      const CallValues &a = decoded.values[i], &b = parsed.values[i];
      if (a.hash != b.hash || a.count != b.count || a.from != b.from || a.tensor != b.tensor ||
          a.state != b.state || a.is_packed != b.is_packed)
        std::abort();
    }
  }
}

// A call has its own shapes, whichever call its content comes from.
void compare_shapes(const cw::Call& call, const cw::Call& own) {
  const auto& arguments = call.content->arguments;
  if (arguments.size() != own.content->arguments.size()) std::abort();
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const cw::Tensor* tensor = arguments[i].second.tensor();
    const cw::Tensor* same = own.content->arguments[i].second.tensor();
    if ((tensor == nullptr) != (same == nullptr)) std::abort();
    if (tensor != nullptr && call.shape_of(*tensor) != own.shape_of(*same)) std::abort();
  }
}

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  compare_decoders({data, size});
  static const std::string path = "/tmp/fuzz_recording-" + std::to_string(::getpid()) + ".cbor";
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(data, static_cast<std::streamsize>(size));
  const auto capture = cw::recording::RecordingCapture::open({path});
  if (!capture) return 0;
  std::size_t next = 0;
  while ((*capture)->fetch()) {
    for (; next < (*capture)->size(); ++next) {
      const cw::CallPlace place = (*capture)->place(next);
      (void)(*capture)->location(place);
      (void)(*capture)->sighting(next);
      const auto call = (*capture)->read(next), own = (*capture)->read_again(place);
      if (!call) continue;
      if (own) compare_shapes(*call, *own);
      for (const auto& [name, value] : call->content->arguments)
        if (const cw::Tensor* tensor = value.tensor()) (void)cw::read_front(*tensor, 16);
    }
    (*capture)->forget(next);
  }
  (void)(*capture)->id();
  return 0;
}
