// Frames: how the records of a recording follow one another.
//
// A recording is a CBOR sequence (RFC 8742), so any CBOR tool can read it. Each item is one frame:
//
//   82                     an array of two
//   48 <8 bytes>           a byte string: XXH3-64 of the payload, most significant byte first
//   d8 18 5a <4 bytes>     tag 24 (encoded CBOR item) on a byte string of that length (big-endian):
//   <payload>              one CBOR item, the record
//
// The header has the same 17 bytes in every frame. A process that is killed while writing leaves a
// truncated frame at the end of the file, and nothing else.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace cw::recording {

inline constexpr std::size_t frame_header_size = 17;
inline constexpr std::size_t max_payload = 64u << 20;  ///< the largest, index tensors, have 16 MB

/// The frame of one payload of at most `max_payload` bytes.
std::string make_frame(std::string_view payload);

struct Frame {
  enum class Status {
    whole,
    cut_off,  ///< there may be more of it later
    damaged,  ///< no frame, or its checksum differs
  };
  Status status;
  std::string_view payload;  ///< of a whole one; points into the bytes that were given
  std::size_t size = 0;  ///< of the frame, as far as its header is there and makes sense; else 0
};

/// The frame at the front of `bytes`.
Frame read_frame(std::string_view bytes);

}  // namespace cw::recording
