// The records of a recording, as recorder/core writes them; see docs/recording.md. Those of calls
// are in call_groups.h.
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

/// A hash as recordings have it: 16 bytes, the most significant first.
Hash128 to_hash(std::string_view bytes);

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

/// The arguments of a "form" record by name. Tensors have no store yet; `entry` numbers them. Lists
/// whose extent calls tell have 0. Error code "record_malformed".
Result<std::vector<std::pair<std::string, Value>>> parse_arguments(const CborItem& item);

/// A list among a form's arguments: an int32 or int64 tensor of one axis, with 2 to max_list_length
/// elements, or with as many as a call has values of it.
struct ListExtent {
  std::uint32_t tensor = 0;              ///< Tensor::entry
  std::int64_t extent = unknown_extent;  ///< unknown_extent: calls tell it
  std::size_t begin = 0, size = 0;       ///< where the arguments' encoding says it
};

/// Appends the first max_lists lists of arguments that parse_arguments() accepts, in order.
void find_lists(const CborItem& arguments, std::vector<ListExtent>& lists);

}  // namespace cw::recording
