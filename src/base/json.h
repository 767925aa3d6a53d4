// JSON from untrusted files: nlohmann's parser, with a tree built here. Nesting depth is bounded,
// because copying and printing values recurse; so is the number of items, because a byte of text
// can take thirty bytes of memory; and objects with many keys cost linear time (the library's
// ordered map compares each key with all previous ones).
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace cw {

using Json = nlohmann::ordered_json;

struct JsonLimits {
  std::size_t depth = 64;
  /// Values of any kind that are kept; every 64 bytes of text count as one more.
  std::size_t items = 1'000'000;
};
/// For files that only this program writes.
inline constexpr JsonLimits trusted_json{.depth = 64,
                                         .items = std::numeric_limits<std::size_t>::max()};

/// Nothing if the text is not JSON, not UTF-8, or exceeds a limit. For duplicate keys, the last
/// value counts.
std::optional<Json> parse_json(std::string_view text, const JsonLimits& limits = {});

/// The path to a value: for each enclosing container, outermost first, its key there, or "" and its
/// index.
struct JsonPlace {
  std::string key;
  std::size_t index = 0;
};
/// Called with each completed object; if it returns false, the object is not kept.
using JsonFilter = std::function<bool(const std::vector<JsonPlace>& path, Json& object)>;

/// Parses a file of any size from its current position, holding in memory only what `filter` keeps.
/// Nothing in the same cases as above.
std::optional<Json> parse_json(std::FILE* file, const JsonFilter& filter, const JsonLimits& limits);

/// JSON text as Python writes it, with null in place of NaN and Infinity outside strings.
std::string without_python_numbers(std::string_view text);

/// The member if present and a string; else empty.
std::string string_member(const Json& object, const char* name);

/// The member if present and a non-negative integer; else 0.
std::uint64_t unsigned_member(const Json& object, const char* name);

/// Whether the member is present and true.
bool bool_member(const Json& object, const char* name);

/// What JSON texts must not begin with (RFC 8259, 8.1), but nlohmann's parser skips.
inline constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";

/// For messages: scalars as they are, truncated to 80 characters; else "an object" or "a list".
std::string brief(const Json& value);

/// For people: the text of a string; else as brief().
std::string plain(const Json& value);

/// Compact text. Bytes that are not UTF-8 (from file names) are replaced.
std::string dump(const Json& value);
/// The same, indented by one.
std::string dump_indented(const Json& value);

}  // namespace cw
