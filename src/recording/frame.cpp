#include "recording/frame.h"

#include <algorithm>
#include <cstdint>

#include <xxhash.h>

namespace cw::recording {
namespace {

constexpr std::string_view array_and_checksum = "\x82\x48";
constexpr std::string_view tag_and_bytes = "\xd8\x18\x5a";
constexpr std::size_t checksum_at = array_and_checksum.size();
constexpr std::size_t tag_at = checksum_at + 8;
constexpr std::size_t length_at = tag_at + tag_and_bytes.size();

std::string big_endian(std::uint64_t number, unsigned bytes) {
  std::string text(bytes, 0);
  for (unsigned i = 0; i < bytes; ++i) text[i] = static_cast<char>(number >> (8 * (bytes - 1 - i)));
  return text;
}

std::uint64_t from_big_endian(std::string_view bytes) {
  std::uint64_t number = 0;
  for (const char byte : bytes) number = number << 8 | static_cast<unsigned char>(byte);
  return number;
}

}  // namespace

std::string make_frame(std::string_view payload) {
  std::string frame;
  frame.reserve(frame_header_size + payload.size());
  frame.append(array_and_checksum)
      .append(big_endian(XXH3_64bits(payload.data(), payload.size()), 8))
      .append(tag_and_bytes);
  return frame.append(big_endian(payload.size(), 4)).append(payload);
}

Frame read_frame(std::string_view bytes) {
  const auto differs = [bytes](std::size_t at, std::string_view expected) {
    const std::string_view seen = bytes.substr(std::min(at, bytes.size()), expected.size());
    return seen != expected.substr(0, seen.size());
  };
  if (differs(0, array_and_checksum) || differs(tag_at, tag_and_bytes))
    return {Frame::Status::damaged, {}, 0};
  if (bytes.size() < frame_header_size) return {Frame::Status::cut_off, {}, 0};
  const std::size_t length = from_big_endian(bytes.substr(length_at, 4));
  if (length > max_payload) return {Frame::Status::damaged, {}, 0};
  const std::size_t size = frame_header_size + length;
  if (bytes.size() < size) return {Frame::Status::cut_off, {}, size};
  const std::string_view payload = bytes.substr(frame_header_size, length);
  if (from_big_endian(bytes.substr(checksum_at, 8)) != XXH3_64bits(payload.data(), length))
    return {Frame::Status::damaged, {}, size};
  return {Frame::Status::whole, payload, size};
}

}  // namespace cw::recording
