#include "capture/recorder/call_groups.h"

#include <algorithm>
#include <cstring>

#include <boost/endian/conversion.hpp>

#include "capture/recorder/cbor.h"
#include "capture/recorder/record.h"

namespace cw::recording {
namespace {

// Far more than any process produces, and sums of it do not wrap.
constexpr std::uint64_t max_count = std::uint64_t{1} << 48;
// Tensors per call, and so addresses and values; the recorder records 24.
constexpr std::size_t max_tensors = 256;

// ---- The recorder's form

// Of heads (cbor.h).
constexpr unsigned of_number = 0, of_array = 4, of_map = 5;

// Reads what must come next; once something else has come, nothing does any more.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes)
      : begin_(bytes.data()), at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  bool is_at_end() const { return at_ == end_; }
  std::uint32_t position() const { return static_cast<std::uint32_t>(at_ - begin_); }
  /// Heads and texts so far, each an item.
  std::size_t items() const { return items_; }

  /// A text that is encoded so, head included.
  template <std::size_t size>
  bool text(const char (&encoded)[size]) {
    constexpr std::size_t length = size - 1;
    if (static_cast<std::size_t>(end_ - at_) < length || std::memcmp(at_, encoded, length) != 0)
      return false;
    at_ += length;
    ++items_;
    return true;
  }

  /// The head of an item of this type, and its argument, of at most `limit`.
  bool head(unsigned major, std::uint64_t limit, std::uint64_t& argument) {
    if (at_ == end_) return false;
    const unsigned first = static_cast<unsigned char>(*at_);
    if (first >> 5 != major) return false;
    const unsigned info = first & 0x1f;
    if (info < 24) {
      argument = info;
      ++at_;
    } else {
      if (info > 27) return false;
      const std::size_t more = std::size_t{1} << (info - 24);
      if (static_cast<std::size_t>(end_ - at_) < 1 + more) return false;
      const auto* bytes = reinterpret_cast<const unsigned char*>(at_ + 1);
      argument = more == 1   ? *bytes
                 : more == 2 ? boost::endian::load_big_u16(bytes)
                 : more == 4 ? boost::endian::load_big_u32(bytes)
                             : boost::endian::load_big_u64(bytes);
      at_ += 1 + more;
    }
    ++items_;
    return argument <= limit;
  }

  template <typename Integer>
  bool number(std::uint64_t limit, Integer& value) {
    std::uint64_t argument = 0;
    if (!head(of_number, limit, argument)) return false;
    value = static_cast<Integer>(argument);
    return true;
  }

  bool boolean(bool& value) {
    if (at_ == end_) return false;
    const auto first = static_cast<unsigned char>(*at_);
    if (first != 0xf4 && first != 0xf5) return false;
    value = first == 0xf5;
    ++at_;
    ++items_;
    return true;
  }

  bool hash(Hash128& value) {
    constexpr char head = '\x50';  // 16 bytes
    if (end_ - at_ < 17 || *at_ != head) return false;
    value = to_hash({at_ + 1, 16});
    at_ += 17;
    ++items_;
    return true;
  }

 private:
  const char *begin_, *at_, *end_;
  std::size_t items_ = 0;
};

bool decode_addresses(Cursor& cursor, CallGroup& group, CallGroups& to) {
  std::uint64_t count = 0;
  if (!cursor.head(of_array, max_tensors, count)) return false;
  group.first_address = static_cast<std::uint32_t>(to.addresses.size());
  group.addresses = static_cast<std::uint32_t>(count);
  for (; count > 0; --count) {
    std::uint64_t address = 0;
    if (!cursor.head(of_number, ~std::uint64_t{0}, address)) return false;
    to.addresses.push_back(address);
  }
  return true;
}

bool decode_state(Cursor& cursor, ValueState& state) {
  if (cursor.text("\x64kept"))
    state = ValueState::kept;
  else if (cursor.text("\x6bsampled_out"))
    state = ValueState::sampled_out;
  else if (cursor.text("\x64lost"))
    state = ValueState::lost;
  else
    return false;
  return true;
}

// {"count", "from", "hash", "packed", "state", "tensor"}: `from`, `hash` and `packed` may be
// absent.
bool decode_values(Cursor& cursor, CallValues& values) {
  std::uint64_t members = 0;
  if (!cursor.head(of_map, 6, members)) return false;
  if (!cursor.text("\x65"
                   "count") ||
      !cursor.number(max_count, values.count))
    return false;
  std::uint64_t read = 3;
  if (cursor.text("\x64"
                  "from")) {
    if (!cursor.number(max_count, values.from)) return false;
    ++read;
  }
  if (cursor.text("\x64hash")) {
    if (!cursor.hash(values.hash)) return false;
    ++read;
  }
  if (cursor.text("\x66packed")) {
    if (!cursor.boolean(values.is_packed)) return false;
    ++read;
  }
  return cursor.text("\x65state") && decode_state(cursor, values.state) &&
         cursor.text("\x66tensor") && cursor.number(max_numbers, values.tensor) && read == members;
}

bool decode_group(Cursor& cursor, CallGroups& to) {
  CallGroup group;
  group.begin = cursor.position();
  std::uint64_t members = 0, read = 0, ignored = 0;
  if (!cursor.head(of_map, 11, members)) return false;

  // In the order of their names.
  if (cursor.text("\x69"
                  "addresses")) {
    if (!decode_addresses(cursor, group, to)) return false;
    ++read;
  }
  if (!cursor.text("\x65"
                   "count") ||
      !cursor.number(max_count, group.count))
    return false;
  if (cursor.text("\x65"
                  "dummy")) {
    if (!cursor.boolean(group.is_dummy)) return false;
    ++read;
  }
  if (!cursor.text("\x64"
                   "form") ||
      !cursor.number(max_numbers, group.signature))
    return false;
  read += 2;
  if (cursor.text("\x66nested")) {
    if (!cursor.boolean(group.is_nested)) return false;
    ++read;
  }
  if (cursor.text("\x64plan")) {
    if (!cursor.number(~std::uint64_t{0}, ignored)) return false;
    ++read;
  }
  if (cursor.text("\x66raised")) {
    if (!cursor.number(max_count, group.raised)) return false;
    ++read;
  }
  if (cursor.text("\x68replayed")) {
    if (!cursor.boolean(group.is_replayed)) return false;
    ++read;
  }
  if (cursor.text("\x69sequences")) {
    if (!cursor.number(max_count, group.sequences)) return false;
    ++read;
  }
  if (cursor.text("\x66values")) {
    std::uint64_t count = 0;
    if (!cursor.head(of_array, max_tensors, count)) return false;
    group.first_values = static_cast<std::uint32_t>(to.values.size());
    group.values = static_cast<std::uint32_t>(count);
    for (; count > 0; --count)
      if (!decode_values(cursor, to.values.emplace_back())) return false;
    ++read;
  }
  if (cursor.text("\x67wrapper")) {
    if (!cursor.number(max_numbers, group.wrapper)) return false;
    ++read;
  }
  if (read != members) return false;

  group.raised = std::min(group.raised, group.count);
  group.size = cursor.position() - group.begin;
  to.groups.push_back(group);
  return true;
}

bool decode_record(std::string_view payload, CallGroups& to) {
  Cursor cursor(payload);
  std::uint64_t members = 0, ignored = 0, count = 0;
  if (!cursor.head(of_map, 3, members) || members != 3) return false;
  if (!cursor.text("\x62"
                   "at") ||
      !cursor.number(~std::uint64_t{0}, ignored))
    return false;
  if (!cursor.text("\x65"
                   "calls") ||
      !cursor.head(of_array, max_record_items, count))
    return false;
  for (; count > 0; --count)
    if (!decode_group(cursor, to)) return false;
  return cursor.text("\x66record") &&
         cursor.text(
             "\x65"
             "calls") &&
         cursor.is_at_end() && cursor.items() <= max_record_items;
}

// ---- Any form

// A number of at most `limit`. False when it is something else.
template <typename Integer>
bool take_number(const CborItem& item, std::uint64_t limit, Integer& value) {
  const auto number = item.unsigned_integer();
  if (!number || *number > limit) return false;
  value = static_cast<Integer>(*number);
  return true;
}

bool parse_values(const CborItem& item, CallValues& values) {
  bool is_well_formed =
      item.is_map() && item.member("tensor") && item.member("count") && item.member("state");
  item.for_each_member([&](std::string_view name, const CborItem& member) {
    if (name == "tensor")
      is_well_formed = is_well_formed && take_number(member, max_numbers, values.tensor);
    if (name == "count")
      is_well_formed = is_well_formed && take_number(member, max_count, values.count);
    if (name == "from")
      is_well_formed = is_well_formed && take_number(member, max_count, values.from);
    if (name == "packed") values.is_packed = member.boolean().value_or(false);
    if (name == "state")
      values.state = from_name<ValueState>(member.text().value_or("")).value_or(ValueState::lost);
    if (const auto hash = member.bytes(); name == "hash" && hash && hash->size() == 16)
      values.hash = to_hash(*hash);
  });
  return is_well_formed;
}

// Empty, or what is wrong with it.
std::string_view parse_group(const CborItem& item, std::uint32_t begin, CallGroups& to) {
  CallGroup group;
  group.begin = begin;
  group.size = static_cast<std::uint32_t>(item.encoded().size());
  std::vector<std::uint64_t> addresses;
  std::vector<CallValues> all_values;
  bool has_signature = false, has_count = false, is_well_formed = item.is_map();
  const auto number = [&is_well_formed](const CborItem& member, std::uint64_t limit, auto& value) {
    is_well_formed = is_well_formed && take_number(member, limit, value);
    return is_well_formed;
  };

  item.for_each_member([&](std::string_view name, const CborItem& member) {
    if (name == "form") has_signature = number(member, max_numbers, group.signature);
    if (name == "count") has_count = number(member, max_count, group.count);
    if (name == "wrapper") number(member, max_numbers, group.wrapper);
    if (name == "raised") number(member, max_count, group.raised);
    if (name == "sequences") number(member, max_count, group.sequences);
    if (name == "dummy") group.is_dummy = member.boolean().value_or(false);
    if (name == "nested") group.is_nested = member.boolean().value_or(false);
    if (name == "replayed") group.is_replayed = member.boolean().value_or(false);
    if (name != "addresses" && name != "values") return;

    if (!member.is_array() || member.size() > max_tensors) {
      is_well_formed = false;
    } else if (name == "addresses") {
      member.for_each([&](const CborItem& address) {
        addresses.push_back(address.unsigned_integer().value_or(0));
      });
    } else {
      member.for_each([&](const CborItem& values) {
        CallValues parsed;
        is_well_formed = parse_values(values, parsed) && is_well_formed;
        if (is_well_formed) all_values.push_back(parsed);
      });
    }
  });
  if (!is_well_formed) return "calls with a member of the wrong type or out of range";
  if (!has_signature || !has_count) return "calls without form or count";

  group.raised = std::min(group.raised, group.count);
  group.first_address = static_cast<std::uint32_t>(to.addresses.size());
  group.addresses = static_cast<std::uint32_t>(addresses.size());
  to.addresses.insert(to.addresses.end(), addresses.begin(), addresses.end());
  group.first_values = static_cast<std::uint32_t>(to.values.size());
  group.values = static_cast<std::uint32_t>(all_values.size());
  to.values.insert(to.values.end(), all_values.begin(), all_values.end());
  to.groups.push_back(group);
  return {};
}

}  // namespace

bool looks_like_calls(std::string_view payload) {
  return payload.ends_with(
      "\x66record\x65"
      "calls");
}

bool decode_calls(std::string_view payload, CallGroups& to) {
  const std::size_t groups = to.groups.size(), values = to.values.size(),
                    addresses = to.addresses.size();
  if (decode_record(payload, to)) return true;
  to.groups.resize(groups);
  to.values.resize(values);
  to.addresses.resize(addresses);
  return false;
}

void parse_calls(std::string_view payload, CallGroups& to) {
  CborItem(payload).member("calls")->for_each([&](const CborItem& item) {
    const auto begin = static_cast<std::uint32_t>(item.data() - payload.data());
    const std::string_view wrong = parse_group(item, begin, to);
    if (wrong.empty()) return;
    CallGroup& group = to.groups.emplace_back();
    group.is_malformed = true;
    group.signature = static_cast<std::uint32_t>(to.wrong.size());
    to.wrong.emplace_back(wrong);
  });
}

bool parse_group(std::string_view encoded, CallGroups& to) {
  return is_plain_cbor(encoded) && parse_group(CborItem(encoded), 0, to).empty();
}

}  // namespace cw::recording
