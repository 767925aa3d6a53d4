#include "capture/recorder/record.h"

#include <algorithm>
#include <utility>

#include <boost/endian/conversion.hpp>

namespace cw::recording {
namespace {

// Arguments per call: the recorder has names for 250, plus 256 list items. Each call in flight has
// its own.
constexpr std::size_t max_values = 512, max_extents = 16;

tl::unexpected<Error> malformed(std::string_view what) {
  return fail("record_malformed", "a record of the recording is malformed: {}", what);
}

std::string text_member(const CborItem& item, std::string_view name) {
  const auto member = item.member(name);
  return std::string(member ? member->text().value_or("") : "");
}

bool is_list_length(std::int64_t extent) {
  return extent >= 2 && extent <= max_list_length;
}

class ArgumentParser {
 public:
  Result<Value> value(const CborItem& item) {
    if (++values_ > max_values) return malformed("more arguments than the recorder writes");
    if (item.is_null()) return Value{};
    if (const auto boolean = item.boolean()) return Value{*boolean};
    if (const auto real = item.real()) return Value{*real};
    if (const auto integer = item.integer()) return Value{*integer};
    if (const auto text = item.text()) return Value{std::string(*text)};
    if (item.is_array()) return sequence(item, false);
    if (!item.is_map()) return malformed("an argument of an unknown kind");
    if (item.member("dtype")) return tensor(item);
    if (const auto items = item.member("items"); items && items->is_array())
      return sequence(*items, true);
    if (item.member("enum")) {
      const auto number = item.member("value");
      return Value{
          Enumerator{text_member(item, "enum"), number ? number->integer().value_or(0) : 0}};
    }
    return Value{Opaque{text_member(item, "type"), text_member(item, "text")}};
  }

 private:
  Result<Value> sequence(const CborItem& items, bool is_truncated) {
    Sequence sequence;
    sequence.truncated = is_truncated;
    std::optional<Error> wrong;
    items.for_each([&](const CborItem& item) {
      if (wrong) return;
      auto parsed = value(item);
      if (parsed)
        sequence.items.push_back(std::move(*parsed));
      else
        wrong = std::move(parsed.error());
    });
    if (wrong) return tl::unexpected(std::move(*wrong));
    return Value{std::move(sequence)};
  }

  Result<Value> tensor(const CborItem& item) {
    Tensor tensor;
    tensor.entry = tensors_++;
    const std::string name = text_member(item, "dtype");
    const auto dtype = name == "float4_e2m1fn_x2" ? DType::float4_e2m1 : dtype_from_torch(name);

    // For a type that nothing binds, only the name is useful.
    if (!dtype) return Value{Opaque{"torch.Tensor", name}};

    const auto shape = item.member("shape");
    if (!shape || !shape->is_array()) return malformed("a tensor without shape");
    bool is_whole = true;
    const bool is_list = shape->size() == 1 && is_list_type(name);
    shape->for_each([&](const CborItem& extent) {
      auto length = extent.integer();
      if (is_list && (extent.is_null() || is_list_length(length.value_or(0)))) {
        if (extent.is_null() && lists_ < max_lists) length = 0;
        ++lists_;
      }
      is_whole = is_whole && length && *length >= 0 && tensor.shape.size() < max_extents;
      if (is_whole) tensor.shape.push_back(*length);
    });
    if (!is_whole) return malformed("an extent that is not a length");
    if (!element_count(tensor.shape))
      return malformed("a tensor with more elements than there can be");
    tensor.dtype = *dtype;
    return Value{std::move(tensor)};
  }

  std::size_t tensors_ = 0, values_ = 0, lists_ = 0;
};

// Goes through arguments as ArgumentParser does, so that it numbers tensors alike.
class ListFinder {
 public:
  ListFinder(const char* begin, std::vector<ListExtent>& lists) : begin_(begin), lists_(lists) {}

  void value(const CborItem& item) {
    if (item.is_array()) return item.for_each([this](const CborItem& i) { value(i); });
    if (!item.is_map()) return;
    std::optional<CborItem> dtype, shape, items;
    item.for_each_member([&](std::string_view name, const CborItem& member) {
      const auto to = name == "dtype"   ? &dtype
                      : name == "shape" ? &shape
                      : name == "items" ? &items
                                        : nullptr;
      if (to != nullptr && !*to) *to = member;
    });
    if (dtype)
      tensor(*dtype, shape);
    else if (items)
      items->for_each([this](const CborItem& i) { value(i); });
  }

 private:
  void tensor(const CborItem& dtype, const std::optional<CborItem>& shape) {
    const std::uint32_t number = tensors_++;
    const auto name = dtype.text().value_or("");
    if (!is_list_type(name) || !shape || !shape->is_array() || shape->size() != 1) return;
    shape->for_each([&](const CborItem& item) {
      const std::int64_t extent = item.is_null() ? unknown_extent : item.integer().value_or(0);
      if ((item.is_null() || is_list_length(extent)) && lists_.size() < max_lists)
        lists_.push_back({number, extent, static_cast<std::size_t>(item.data() - begin_),
                          item.encoded().size()});
    });
  }

  const char* begin_;
  std::vector<ListExtent>& lists_;
  std::uint32_t tensors_ = 0;
};

}  // namespace

Hash128 to_hash(std::string_view bytes) {
  const auto* begin = reinterpret_cast<const unsigned char*>(bytes.data());
  return {boost::endian::load_big_u64(begin), boost::endian::load_big_u64(begin + 8)};
}

std::optional<ValuesRecord> as_values(std::string_view payload) {
  // {"hash": <16 bytes>, "record": "values", "values": <bytes>}
  constexpr std::string_view before = "\xa3\x64hash\x50",
                             between = "\x66record\x66values\x66values";
  constexpr std::size_t hash_at = before.size(), head_at = hash_at + 16 + between.size();
  if (!payload.starts_with(before) || payload.size() <= head_at ||
      payload.substr(hash_at + 16, between.size()) != between)
    return {};
  // The head of a byte string: its length in five bits, or in 1, 2, 4 or 8 bytes.
  const auto head = static_cast<unsigned char>(payload[head_at]);
  const unsigned info = head & 0x1f;
  if (head >> 5 != 2 || info > 27) return {};
  const std::size_t length_bytes = info < 24 ? 0 : std::size_t{1} << (info - 24);
  ValuesRecord record{to_hash(payload.substr(hash_at, 16)), head_at + 1 + length_bytes,
                      info < 24 ? info : 0};
  if (record.begin > payload.size()) return {};
  for (const char byte : payload.substr(head_at + 1, length_bytes))
    record.size = record.size << 8 | static_cast<unsigned char>(byte);
  if (record.size != payload.size() - record.begin) return {};
  return record;
}

Result<std::vector<std::pair<std::string, Value>>> parse_arguments(const CborItem& item) {
  if (!item.is_array()) return malformed("arguments that are not a list");
  std::vector<std::pair<std::string, Value>> arguments;
  std::optional<Error> wrong;
  ArgumentParser parser;

  item.for_each([&](const CborItem& argument) {
    if (wrong) return;
    std::vector<CborItem> pair;
    if (argument.size() == 2)
      argument.for_each([&pair](const CborItem& part) { pair.push_back(part); });
    const auto name = pair.size() == 2 ? pair[0].text() : std::nullopt;

    if (!name) {
      wrong = malformed("an argument without name or value").value();
      return;
    }
    auto value = parser.value(pair[1]);
    if (value)
      arguments.emplace_back(std::string(*name), std::move(*value));
    else
      wrong = std::move(value.error());
  });

  if (wrong) return tl::unexpected(std::move(*wrong));
  return arguments;
}

void find_lists(const CborItem& arguments, std::vector<ListExtent>& lists) {
  ListFinder finder(arguments.data(), lists);
  arguments.for_each([&finder](const CborItem& argument) {
    if (argument.size() != 2) return;
    bool is_name = true;
    argument.for_each([&](const CborItem& part) {
      if (!std::exchange(is_name, false)) finder.value(part);
    });
  });
}

}  // namespace cw::recording
