// Content hashes: XXH3 for tables in memory, SHA-256 and UUIDv5 for public names.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

namespace cw {

/// 128 bits of XXH3: not cryptographic, for tables in memory and in files of our own.
struct Hash128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  auto operator<=>(const Hash128&) const = default;
};

/// Appends a value as it is in memory, to text that is hashed there.
template <typename Value>
requires std::is_trivially_copyable_v<Value>
void append_bytes(std::string& text, const Value& value) {
  text.append(reinterpret_cast<const char*>(&value), sizeof value);
}

Hash128 xxh3(std::string_view bytes);
std::uint64_t xxh3_64(std::string_view bytes);

/// Lower-case hex SHA-256 (FIPS 180-4).
std::string sha256_hex(std::string_view bytes);

/// Incremental SHA-256.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  ~Sha256();
  void add(std::string_view bytes);
  /// Lower-case hex; may be called once.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// RFC 9562 name-based UUID (version 5) of `name` in this project's own namespace.
std::string uuid_v5(std::string_view name);

}  // namespace cw

template <>
struct std::hash<cw::Hash128> {
  std::size_t operator()(const cw::Hash128& h) const noexcept { return h.low; }
};
