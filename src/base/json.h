// JSON from files that anybody may have written: nlohmann's parser, with a tree built here. Nesting
// is bounded, because copying and printing its values recurse; items are, because a byte of text
// can be thirty of memory; and an object with many keys costs no more than its size (the library's
// ordered map looks for each key in all that came before).
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
  /// Values of all kinds that are kept; 64 bytes of text are one more.
  std::size_t items = 1'000'000;
};
/// For files that only this program writes.
inline constexpr JsonLimits trusted_json{.depth = 64,
                                         .items = std::numeric_limits<std::size_t>::max()};

/// Nothing when the text is not JSON, not UTF-8, or past a limit. Of a key that comes twice the
/// last value counts.
std::optional<Json> parse_json(std::string_view text, const JsonLimits& limits = {});

/// Where a value lies: for each container around it, from the outermost on, its key there, or ""
/// and its index.
struct JsonPlace {
  std::string key;
  std::size_t index = 0;
};
/// Is given each object that has ended; one for which it returns false is not kept.
using JsonFilter = std::function<bool(const std::vector<JsonPlace>& path, Json& object)>;

/// A file of any size, read from where it stands: memory holds what `filter` keeps. Nothing as
/// parse_json().
std::optional<Json> parse_json(std::FILE* file, const JsonFilter& filter, const JsonLimits& limits);

/// JSON text as Python writes it: null in place of NaN and Infinity, outside of strings.
std::string without_python_numbers(std::string_view text);

/// The member if it is there and a string; else empty.
std::string string_member(const Json& object, const char* name);

/// The member if it is there and an integer of 0 or more; else 0.
std::uint64_t unsigned_member(const Json& object, const char* name);

/// Whether the member is there and true.
bool bool_member(const Json& object, const char* name);

/// What JSON texts must not begin with (RFC 8259, 8.1), and what nlohmann's parser passes over.
inline constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";

/// For messages: scalars as they are, cut at 80 characters, "an object" or "a list" else.
std::string brief(const Json& value);

/// For people: the text of a string; else as brief().
std::string plain(const Json& value);

/// Compact text. Bytes that are not UTF-8 (from file names) are replaced.
std::string dump(const Json& value);
/// The same, indented by one.
std::string dump_indented(const Json& value);

}  // namespace cw
