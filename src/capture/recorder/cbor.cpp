#include "capture/recorder/cbor.h"

#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace cw::recording {
namespace {

enum Major : unsigned {
  unsigned_integer,
  negative_integer,
  byte_string,
  text_string,
  array,
  map,
  tag,
  simple
};

struct Head {
  unsigned major = 0, info = 0;
  std::uint64_t argument = 0;
  std::size_t size = 0;  ///< in bytes; 0: invalid
};

Head head_of(std::string_view bytes) {
  if (bytes.empty()) return {};
  const unsigned first = static_cast<unsigned char>(bytes[0]);
  Head head{first >> 5, first & 0x1f, first & 0x1f, 1};
  if (head.info < 24) return head;
  if (head.info > 27) return {};  // reserved, or indefinite length

  const std::size_t more = std::size_t{1} << (head.info - 24);
  if (bytes.size() < 1 + more) return {};
  head.argument = 0;
  for (const char byte : bytes.substr(1, more))
    head.argument = head.argument << 8 | static_cast<unsigned char>(byte);
  head.size = 1 + more;
  return head;
}

bool is_string(const Head& head) {
  return head.major == byte_string || head.major == text_string;
}

// false, true, null; half, single and double floats.
bool is_known_simple(const Head& head) {
  return (head.info >= 20 && head.info <= 22) || (head.info >= 25 && head.info <= 27);
}

// IEEE 754 binary16: 1 sign, 5 exponent and 10 fraction bits.
double from_half(std::uint64_t bits) {
  const auto exponent = static_cast<int>(bits >> 10 & 0x1f);
  const auto fraction = static_cast<double>(bits & 0x3ff);
  const double magnitude = exponent == 0    ? std::ldexp(fraction, -24)
                           : exponent != 31 ? std::ldexp(fraction + 1024, exponent - 25)
                           : fraction == 0  ? std::numeric_limits<double>::infinity()
                                            : std::numeric_limits<double>::quiet_NaN();
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

}  // namespace

bool is_plain_cbor(std::string_view bytes) {
  // Items still to come, per nesting level.
  std::array<std::uint64_t, max_record_depth> open{};
  std::size_t depth = 0;
  for (std::size_t items = 1; items <= max_record_items; ++items) {
    const Head head = head_of(bytes);
    if (head.size == 0 || head.major == tag || (head.major == simple && !is_known_simple(head)))
      return false;
    bytes.remove_prefix(head.size);

    // Each item takes at least one byte: a longer list cannot be complete.
    const bool has_length = is_string(head) || head.major == array || head.major == map;
    if (has_length && head.argument > bytes.size()) return false;
    if (is_string(head)) bytes.remove_prefix(static_cast<std::size_t>(head.argument));
    if (const std::uint64_t nested = head.major == array ? head.argument
                                     : head.major == map ? 2 * head.argument
                                                         : 0;
        nested > 0) {
      if (depth == open.size()) return false;
      open[depth++] = nested;
      continue;
    }
    while (depth > 0 && --open[depth - 1] == 0) --depth;
    if (depth == 0) return bytes.empty();
  }
  return false;
}

std::size_t CborItem::encoded_size(std::string_view bytes) {
  const std::size_t all = bytes.size();
  for (std::uint64_t left = 1; left > 0; --left) {
    const Head head = head_of(bytes);
    bytes.remove_prefix(head.size +
                        (is_string(head) ? static_cast<std::size_t>(head.argument) : 0));
    if (head.major == array) left += head.argument;
    if (head.major == map) left += 2 * head.argument;
  }
  return all - bytes.size();
}

std::size_t CborItem::head_size() const {
  return head_of(bytes_).size;
}

std::uint64_t CborItem::argument() const {
  return head_of(bytes_).argument;
}

std::size_t CborItem::size() const {
  return is_array() || is_map() ? static_cast<std::size_t>(argument()) : 0;
}

std::optional<bool> CborItem::boolean() const {
  if (first() != 0xf4 && first() != 0xf5) return {};
  return first() == 0xf5;
}

std::optional<std::uint64_t> CborItem::unsigned_integer() const {
  if (major() != Major::unsigned_integer) return {};
  return argument();
}

std::optional<std::int64_t> CborItem::integer() const {
  constexpr auto max = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (major() > negative_integer || argument() > max) return {};
  const auto value = static_cast<std::int64_t>(argument());
  return major() == negative_integer ? -1 - value : value;
}

std::optional<double> CborItem::real() const {
  if (major() != simple) return {};
  const Head head = head_of(bytes_);
  if (head.info == 25) return from_half(head.argument);
  if (head.info == 26) return std::bit_cast<float>(static_cast<std::uint32_t>(head.argument));
  if (head.info == 27) return std::bit_cast<double>(head.argument);
  return {};
}

std::optional<std::string_view> CborItem::text() const {
  if (major() != text_string) return {};
  return bytes_.substr(head_size(), static_cast<std::size_t>(argument()));
}

std::optional<std::string_view> CborItem::bytes() const {
  if (major() != byte_string) return {};
  return bytes_.substr(head_size(), static_cast<std::size_t>(argument()));
}

std::optional<CborItem> CborItem::member(std::string_view name) const {
  std::optional<CborItem> found;
  for_each_member([&](std::string_view key, CborItem value) {
    if (key == name && !found) found = value;
  });
  return found;
}

}  // namespace cw::recording
