// The records of a recording, as recorder/core writes them; see docs/recording.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "capture/recorder/cbor.h"
#include "capture/value.h"
#include "recording/records.h"

namespace cw::recording {

/// A "values" record: an index tensor's bytes, not copied.
struct ValuesRecord {
  Hash128 hash;
  std::size_t begin = 0, size = 0;  ///< of the bytes in the payload
};
/// Nothing if the payload is another record. Accepts only the form that the recorder writes:
/// members sorted by name.
std::optional<ValuesRecord> as_values(std::string_view payload);

/// Sites, forms and wrappers are numbered below this.
inline constexpr std::uint64_t max_numbers = 0xffffffff;

/// Index values that a call was made with.
struct CallValues {
  Hash128 hash;
  std::uint64_t count = 0,
                from = 0;    ///< the used entries: [from, count)
  std::uint32_t tensor = 0;  ///< which of the call's tensors, in the order of its arguments
  ValueState state = ValueState::lost;
};

/// Equivalent calls.
struct CallGroup {
  std::uint32_t signature = 0;
  std::uint32_t wrapper = 0;  ///< 0: no wrapper
  std::uint64_t count = 0, raised = 0;
  std::int64_t sequences = -1;  ///< real sequences of a padded batch; -1: not padded
  bool is_dummy = false, is_nested = false, is_replayed = false;
  std::vector<std::uint64_t> addresses;
  std::vector<CallValues> values;
};
/// Error code "record_malformed".
Result<CallGroup> parse_group(const CborItem& item);

/// The arguments of a "form" record by name. Tensors have no store yet; `entry` numbers them.
/// Error code "record_malformed".
Result<std::vector<std::pair<std::string, Value>>> parse_arguments(const CborItem& item);

}  // namespace cw::recording
