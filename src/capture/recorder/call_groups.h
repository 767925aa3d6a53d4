// The "calls" records of a recording, decoded where they lie.
//
// These are nearly all of a long recording. The recorder writes them in one form only: a map's
// members sorted by name. That form is decoded in one pass, which checks it at the same time; for
// anything else that is CBOR, there is a slower way with the same results.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "recording/records.h"

namespace cw::recording {

/// Index values that a call was made with.
struct CallValues {
  Hash128 hash;
  std::uint64_t count = 0,
                from = 0;    ///< the used entries: [from, count)
  std::uint32_t tensor = 0;  ///< which of the call's tensors, in the order of its arguments
  bool is_packed = false;    ///< of a page table: the pages in use
  ValueState state = ValueState::lost;

  std::uint64_t used() const { return count - (from < count ? from : count); }
};

/// Equivalent calls.
struct CallGroup {
  std::uint32_t signature = 0;
  std::uint32_t wrapper = 0;  ///< 0: no wrapper
  std::uint64_t count = 0, raised = 0;
  std::int64_t sequences = -1;  ///< real sequences of a padded batch; -1: not padded
  bool is_dummy = false, is_nested = false, is_replayed = false;
  /// Not a group, but what is wrong with one: `signature` is its number in CallGroups::wrong.
  bool is_malformed = false;
  std::uint32_t begin = 0, size = 0;               ///< of its encoding in the payload
  std::uint32_t first_address = 0, addresses = 0;  ///< in CallGroups::addresses
  std::uint32_t first_values = 0, values = 0;      ///< in CallGroups::values
};

/// The groups of any number of records, in order.
struct CallGroups {
  std::vector<CallGroup> groups;
  std::vector<CallValues> values;
  std::vector<std::uint64_t> addresses;
  std::vector<std::string> wrong;  ///< messages; the code is "record_malformed"

  /// Of its memory, in bytes; without messages.
  std::size_t capacity() const {
    return groups.capacity() * sizeof(CallGroup) + values.capacity() * sizeof(CallValues) +
           addresses.capacity() * sizeof(std::uint64_t);
  }
  void clear() {
    groups.clear();
    values.clear();
    addresses.clear();
    wrong.clear();
  }
};

inline std::span<const CallValues> values_of(const CallGroup& group, const CallGroups& groups) {
  return std::span(groups.values).subspan(group.first_values, group.values);
}
inline std::span<const std::uint64_t> addresses_of(const CallGroup& group,
                                                   const CallGroups& groups) {
  return std::span(groups.addresses).subspan(group.first_address, group.addresses);
}

/// Whether a payload may be decoded by decode_calls(): it ends like a "calls" record.
bool looks_like_calls(std::string_view payload);

/// Appends the groups of a "calls" record in the recorder's form. False, and nothing appended, if
/// the payload has any other form.
bool decode_calls(std::string_view payload, CallGroups& to);

/// The same for any payload that is_plain_cbor() has accepted. Its member "calls" must be an array.
void parse_calls(std::string_view payload, CallGroups& to);

/// One group, as it is encoded within a record; nothing if it is malformed.
bool parse_group(std::string_view encoded, CallGroups& to);

}  // namespace cw::recording
