// A call's arguments, encoded compactly on the engine's thread and decoded on the aggregator's.
//
// Every argument is a name (an index into the function's names) and a value; a value is a tag and
// its payload, with integers in native byte order. Equal calls give equal bytes, so the bytes,
// without the lengths of lists that their values tell, are what calls are grouped by.
#pragma once

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace cw::recorder {

using Json = nlohmann::json;

/// DLPack's data type: a code (dlpack.h, DLDataTypeCode) and the bits of an element.
struct ElementType {
  std::uint8_t code = 0;
  std::uint8_t bits = 0;
  auto operator<=>(const ElementType&) const = default;
};
/// As torch prints it, without "torch."; empty for types that torch lacks.
std::string_view name_of(ElementType type);
/// The reverse; bits are 0 for an unknown name.
ElementType element_type(std::string_view name);

/// Whether a text may be recorded: the name of a mode or layout, as APIs take them.
inline bool is_option(std::string_view text) {
  constexpr std::size_t max_size = 24;
  return text.size() <= max_size && std::ranges::all_of(text, [](unsigned char c) {
           return c < 128 && (std::isalnum(c) != 0 || c == '_');
         });
}

class ArgumentWriter {
 public:
  void clear() { size_ = 0; }
  std::span<const std::byte> bytes() const { return {bytes_.data(), size_}; }
  /// The current position, for take_back().
  std::size_t mark() const { return size_; }
  /// Whether everything written fit.
  bool is_whole() const { return size_ <= capacity; }
  void take_back(std::size_t mark) { size_ = mark; }

  void name(std::uint16_t index) { raw(index); }
  void none() { tag(Tag::none); }
  void boolean(bool value) { tag(value ? Tag::yes : Tag::no); }
  void integer(std::int64_t value);
  void real(double value);
  void text(std::string_view value);  ///< truncated to max_text
  void tensor(ElementType type, std::span<const std::int64_t> shape, bool is_on_device);
  /// `count` values follow, out of `length`.
  void sequence(std::size_t count, std::size_t length);
  void enumerator(std::string_view name, std::int64_t value);
  void opaque(std::string_view type, std::string_view text);

  static constexpr std::size_t max_text = 80;

 private:
  friend class ArgumentReader;
  enum class Tag : std::uint8_t {
    none,
    no,
    yes,
    integer,
    real,
    text,
    tensor,
    sequence,
    enumerator,
    opaque
  };
  void tag(Tag value) { raw(value); }
  template <typename T>
  void raw(const T& value) {
    write(&value, sizeof value);
  }
  void write(const void* data, std::size_t size) {
    if (size > 0 && size_ + size <= capacity) std::memcpy(bytes_.data() + size_, data, size);
    size_ = size_ + size <= capacity ? size_ + size : capacity + 1;
  }
  void string(std::string_view value);

  static constexpr std::size_t capacity = 8192;  // a real call takes a few hundred bytes
  std::size_t size_ = 0;
  std::array<std::byte, capacity + 1> bytes_;
};

/// A list among encoded arguments: an int32 or int64 tensor of one axis.
struct EncodedList {
  std::uint16_t tensor = 0;  ///< among the call's tensors
  std::size_t at = 0;        ///< where its extent is, in 8 bytes
  std::int64_t extent = 0;
};
/// The first recording::max_lists of them.
std::vector<EncodedList> find_lists(std::span<const std::byte> arguments);

/// Stands for an extent that a call's values tell.
inline constexpr std::int64_t extent_of_values = -1;

/// The arguments as stored in a recording: [[name, value]...]; see docs/recording.md. `names` are
/// the function's.
Json describe_arguments(std::span<const std::byte> bytes, const std::vector<std::string>& names);

}  // namespace cw::recorder
