#include "arguments.h"

#include <algorithm>
#include <cstring>

#include "recording/records.h"

namespace cw::recorder {
namespace {

struct NamedType {
  ElementType type;
  std::string_view name;
};

// Codes: dlpack.h 1.3, DLDataTypeCode.
constexpr NamedType types[] = {
    {{0, 8}, "int8"},
    {{0, 16}, "int16"},
    {{0, 32}, "int32"},
    {{0, 64}, "int64"},
    {{1, 8}, "uint8"},
    {{1, 16}, "uint16"},
    {{1, 32}, "uint32"},
    {{1, 64}, "uint64"},
    {{2, 16}, "float16"},
    {{2, 32}, "float32"},
    {{2, 64}, "float64"},
    {{4, 16}, "bfloat16"},
    {{5, 64}, "complex64"},
    {{5, 128}, "complex128"},
    {{6, 8}, "bool"},
    {{10, 8}, "float8_e4m3fn"},
    {{11, 8}, "float8_e4m3fnuz"},
    {{12, 8}, "float8_e5m2"},
    {{13, 8}, "float8_e5m2fnuz"},
    {{14, 8}, "float8_e8m0fnu"},
    {{17, 4}, "float4_e2m1fn_x2"},
};

}  // namespace

std::string_view name_of(ElementType type) {
  const auto* found = std::find_if(std::begin(types), std::end(types),
                                   [type](const auto& t) { return t.type == type; });
  return found == std::end(types) ? std::string_view() : found->name;
}

ElementType element_type(std::string_view name) {
  const auto* found = std::find_if(std::begin(types), std::end(types),
                                   [name](const auto& t) { return t.name == name; });
  return found == std::end(types) ? ElementType{} : found->type;
}

void ArgumentWriter::integer(std::int64_t value) {
  tag(Tag::integer);
  raw(value);
}

void ArgumentWriter::real(double value) {
  tag(Tag::real);
  raw(value);
}

void ArgumentWriter::string(std::string_view value) {
  if (value.size() > max_text) {
    std::size_t end = max_text;  // never splits a UTF-8 sequence
    while (end > 0 && (static_cast<unsigned char>(value[end]) & 0xc0) == 0x80) --end;
    value = value.substr(0, end);
  }
  raw(static_cast<std::uint8_t>(value.size()));
  write(value.data(), value.size());
}

void ArgumentWriter::text(std::string_view value) {
  tag(Tag::text);
  string(value);
}

void ArgumentWriter::tensor(ElementType type, std::span<const std::int64_t> shape,
                            bool is_on_device) {
  tag(Tag::tensor);
  raw(type.code);
  raw(type.bits);
  raw(static_cast<std::uint8_t>(is_on_device));
  raw(static_cast<std::uint8_t>(shape.size()));
  for (const std::int64_t extent : shape) raw(extent);
}

void ArgumentWriter::sequence(std::size_t count, std::size_t length) {
  tag(Tag::sequence);
  raw(static_cast<std::uint8_t>(count));
  raw(static_cast<std::uint64_t>(length));
}

void ArgumentWriter::enumerator(std::string_view name, std::int64_t value) {
  tag(Tag::enumerator);
  string(name);
  raw(value);
}

void ArgumentWriter::opaque(std::string_view type, std::string_view text) {
  tag(Tag::opaque);
  string(type);
  string(text);
}

class ArgumentReader {
 public:
  explicit ArgumentReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  bool is_at_end() const { return rest_.empty(); }

  template <typename T>
  T raw() {
    T value{};
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  // Passes over a value, and notes its lists; `all` is what this reads.
  void find_lists(std::span<const std::byte> all, std::vector<EncodedList>& lists) {
    using Tag = ArgumentWriter::Tag;
    switch (static_cast<Tag>(raw<std::uint8_t>())) {
      case Tag::none:
      case Tag::no:
      case Tag::yes:
        return;
      case Tag::integer:
      case Tag::real:
        take(8);
        return;
      case Tag::text:
        take(raw<std::uint8_t>());
        return;
      case Tag::tensor: {
        ElementType type;
        type.code = raw<std::uint8_t>();
        type.bits = raw<std::uint8_t>();
        take(1);  // device
        const auto rank = raw<std::uint8_t>();
        const std::size_t at = all.size() - rest_.size();
        const auto extents = take(rank * sizeof(std::int64_t));
        const bool is_list = rank == 1 && recording::is_list_type(name_of(type));
        if (is_list && lists.size() < recording::max_lists) {
          EncodedList& list = lists.emplace_back(EncodedList{tensors_, at});
          std::memcpy(&list.extent, extents.data(), sizeof list.extent);
        }
        ++tensors_;
        return;
      }
      case Tag::sequence: {
        const auto count = raw<std::uint8_t>();
        take(8);
        for (unsigned i = 0; i < count; ++i) find_lists(all, lists);
        return;
      }
      case Tag::enumerator:
        take(raw<std::uint8_t>());
        take(8);
        return;
      case Tag::opaque:
        take(raw<std::uint8_t>());
        take(raw<std::uint8_t>());
        return;
    }
  }

  Json value() {
    using Tag = ArgumentWriter::Tag;

    // By tag; each is followed by what the writer puts there.
    switch (static_cast<Tag>(raw<std::uint8_t>())) {
      case Tag::none:
        return nullptr;
      case Tag::no:
        return false;
      case Tag::yes:
        return true;
      case Tag::integer:
        return raw<std::int64_t>();
      case Tag::real:
        return raw<double>();
      case Tag::text:
        return string();
      case Tag::tensor:
        return tensor();
      case Tag::sequence: {
        const auto count = raw<std::uint8_t>();
        const auto length = raw<std::uint64_t>();
        Json items = Json::array();
        for (unsigned i = 0; i < count; ++i) items.push_back(value());
        if (count == length) return items;
        return {{"items", std::move(items)}, {"length", length}};
      }
      case Tag::enumerator: {
        Json name = string();
        return {{"enum", std::move(name)}, {"value", raw<std::int64_t>()}};
      }
      case Tag::opaque: {
        Json type = string(), text = string();
        return {{"type", std::move(type)}, {"text", std::move(text)}};
      }
    }
    return nullptr;
  }

 private:
  std::span<const std::byte> take(std::size_t size) {
    const auto taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }

  Json string() {
    const auto bytes = take(raw<std::uint8_t>());
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  Json tensor() {
    ElementType type;
    type.code = raw<std::uint8_t>();
    type.bits = raw<std::uint8_t>();
    const bool is_on_device = raw<std::uint8_t>() != 0;
    Json shape = Json::array();
    for (unsigned left = raw<std::uint8_t>(); left > 0; --left) {
      const auto extent = raw<std::int64_t>();
      shape.push_back(extent == extent_of_values ? Json() : Json(extent));
    }
    Json json = {{"dtype", name_of(type)}, {"shape", std::move(shape)}};
    if (is_on_device) json["device"] = true;
    return json;
  }

  std::span<const std::byte> rest_;
  std::uint16_t tensors_ = 0;
};

std::vector<EncodedList> find_lists(std::span<const std::byte> arguments) {
  std::vector<EncodedList> lists;
  for (ArgumentReader reader(arguments); !reader.is_at_end();) {
    reader.raw<std::uint16_t>();
    reader.find_lists(arguments, lists);
  }
  return lists;
}

Json describe_arguments(std::span<const std::byte> bytes, const std::vector<std::string>& names) {
  Json arguments = Json::array();
  for (ArgumentReader reader(bytes); !reader.is_at_end();) {
    const auto name = reader.raw<std::uint16_t>();
    arguments.push_back({name < names.size() ? names[name] : "?", reader.value()});
  }
  return arguments;
}

}  // namespace cw::recorder
