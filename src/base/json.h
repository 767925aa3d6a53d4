// JSON from files that anybody may have written: nlohmann's parser behind a bound on nesting, because
// copying and printing its values recurse.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace cw {

using Json = nlohmann::ordered_json;

/// Nothing when the text is not JSON, not UTF-8, or nested more than 64 deep.
std::optional<Json> parse_json(std::string_view text);

/// The member if it is there and a string; else empty.
std::string string_member(const Json& object, const char* name);

/// The member if it is there and an integer of 0 or more; else 0.
std::uint64_t unsigned_member(const Json& object, const char* name);

/// For messages: scalars as they are, cut at 80 characters, "an object" or "a list" else.
std::string brief(const Json& value);

/// For people: the text of a string; else as brief().
std::string plain(const Json& value);

/// Compact text. Bytes that are not UTF-8 (from file names) are replaced.
std::string dump(const Json& value);
/// The same, indented by one.
std::string dump_indented(const Json& value);

}  // namespace cw
