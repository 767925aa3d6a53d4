// CBOR (RFC 8949) as the recorder writes it, read in place: no tree is built and no text is copied.
//
//   head: 3 bits of major type, 5 bits that are the argument or the number of argument bytes that
//         follow
//   major types: 0 unsigned, 1 negative (-1 - argument), 2 bytes, 3 text, 4 array, 5 map, 7 false,
//         true, null and floats
//
// is_plain_cbor() looks at each item once and refuses what the recorder never writes: indefinite
// lengths, tags, and nesting or item counts beyond any record's. It does not recurse, so no input
// can exhaust the stack, and it runs before anything is built from the input. A CborItem must only
// be constructed from bytes that it has accepted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace cw::recording {

inline constexpr std::size_t max_record_depth = 16;  ///< real ones are nested half as deep
/// A window of calls has about ten thousand.
inline constexpr std::size_t max_record_items = 1u << 20;

/// Whether the bytes are exactly one complete item, within these limits and of the types above.
bool is_plain_cbor(std::string_view bytes);

class CborItem {
 public:
  /// The item at the front of bytes that is_plain_cbor() has accepted.
  explicit CborItem(std::string_view bytes) : bytes_(bytes) {}

  bool is_array() const { return major() == 4; }
  bool is_map() const { return major() == 5; }
  bool is_null() const { return first() == 0xf6; }
  // Nothing if it is of another type, or does not fit.
  std::optional<bool> boolean() const;
  std::optional<std::uint64_t> unsigned_integer() const;
  std::optional<std::int64_t> integer() const;
  std::optional<double> real() const;
  std::optional<std::string_view> text() const;
  std::optional<std::string_view> bytes() const;

  /// The number of items of an array, or members of a map; 0 for anything else.
  std::size_t size() const;
  /// `visit(CborItem)`, for an array's items.
  template <typename Visit>
  void for_each(Visit visit) const {
    if (!is_array()) return;
    std::string_view rest = bytes_.substr(head_size());
    for (std::size_t left = size(); left > 0; --left) visit(take(rest));
  }
  /// `visit(std::string_view name, CborItem)`, for a map's members; those whose name is not text
  /// are skipped.
  template <typename Visit>
  void for_each_member(Visit visit) const {
    if (!is_map()) return;
    std::string_view rest = bytes_.substr(head_size());
    for (std::size_t left = size(); left > 0; --left) {
      const auto name = take(rest).text();
      const CborItem value = take(rest);
      if (name) visit(*name, value);
    }
  }
  /// The member of that name; if there are several, the first.
  std::optional<CborItem> member(std::string_view name) const;

  /// Where the item begins.
  const char* data() const { return bytes_.data(); }
  /// Its bytes, including everything it contains.
  std::string_view encoded() const { return bytes_.substr(0, encoded_size(bytes_)); }

 private:
  static std::size_t encoded_size(std::string_view bytes);
  static CborItem take(std::string_view& rest) {
    const CborItem item(rest);
    rest.remove_prefix(encoded_size(rest));
    return item;
  }
  unsigned first() const { return static_cast<unsigned char>(bytes_[0]); }
  unsigned major() const { return first() >> 5; }
  std::size_t head_size() const;
  std::uint64_t argument() const;

  std::string_view bytes_;
};

}  // namespace cw::recording
