// Which of many calls are looked at.
#pragma once

#include <bit>
#include <cstdint>

namespace cw::recorder {

/// Whether the `count`th call is one: all of the first 2^octaves - 1, then an ever smaller
/// fraction, so that each octave of calls gives as many as the previous one.
inline bool is_in_sample(std::uint64_t count, unsigned octaves) {
  const auto octave = static_cast<unsigned>(std::bit_width(count));
  return octave <= octaves || (count & ((std::uint64_t{1} << (octave - octaves)) - 1)) == 0;
}

}  // namespace cw::recorder
