#include "capture/recording/record.h"

#include <algorithm>

namespace cw::recording {
namespace {

constexpr int deepest = 64;

// Counts how deep a CBOR item is nested, because whoever copies or destroys its JSON recurses.
class DepthGuard : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return ++depth_ <= deepest; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return --depth_ >= 0; }
  bool start_array(std::size_t) override { return ++depth_ <= deepest; }
  bool end_array() override { return --depth_ >= 0; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  int depth_ = 0;
};

// Far more than any process makes of anything, and sums of it do not wrap.
constexpr std::int64_t most = std::int64_t{1} << 48;

// A number of 0 or more, `otherwise` when there is none. False when there is something else.
bool number(const Json& json, const char* name, std::int64_t limit, std::int64_t& value) {
  const auto found = json.find(name);
  if (found == json.end()) return true;
  if (!found->is_number_integer() || (found->is_number_unsigned() && found->get<std::uint64_t>() > static_cast<std::uint64_t>(limit)))
    return false;
  value = found->get<std::int64_t>();
  return value >= 0;
}

bool is_set(const Json& json, const char* name) {
  const auto found = json.find(name);
  return found != json.end() && found->is_boolean() && found->get<bool>();
}

Hash128 to_hash(std::string_view bytes) {
  Hash128 hash;
  for (std::size_t i = 0; i < 8; ++i) {
    hash.high = hash.high << 8 | static_cast<unsigned char>(bytes[i]);
    hash.low = hash.low << 8 | static_cast<unsigned char>(bytes[i + 8]);
  }
  return hash;
}

tl::unexpected<Error> malformed(std::string_view what) {
  return fail("record_malformed", "a record of the recording is malformed: {}", what);
}

class ArgumentParser {
 public:
  Result<Value> value(const Json& json) {
    if (json.is_null()) return Value{};
    if (json.is_boolean()) return Value{json.get<bool>()};
    if (json.is_number_float()) return Value{json.get<double>()};
    if (json.is_number_integer()) return Value{json.get<std::int64_t>()};
    if (json.is_string()) return Value{json.get<std::string>()};
    if (json.is_array()) return sequence(json, false);
    if (!json.is_object()) return malformed("an argument of no known kind");
    if (json.contains("dtype")) return tensor(json);
    if (const auto items = json.find("items"); items != json.end() && items->is_array()) return sequence(*items, true);
    if (json.contains("enum")) return Value{Enumerator{string_member(json, "enum"), json.contains("value") && json["value"].is_number_integer() ? json["value"].get<std::int64_t>() : 0}};
    return Value{Opaque{string_member(json, "type"), string_member(json, "text")}};
  }

 private:
  Result<Value> sequence(const Json& items, bool is_truncated) {
    Sequence sequence;
    sequence.truncated = is_truncated;
    for (const Json& item : items) {
      CW_TRY(Value parsed, value(item));
      sequence.items.push_back(std::move(parsed));
    }
    return Value{std::move(sequence)};
  }

  Result<Value> tensor(const Json& json) {
    Tensor tensor;
    tensor.entry = tensors_++;
    const std::string name = string_member(json, "dtype");
    const auto dtype = name == "float4_e2m1fn_x2" ? DType::float4_e2m1 : dtype_from_torch(name);
    const auto shape = json.find("shape");
    // Of a type that nobody binds only the name is of use.
    if (!dtype) return Value{Opaque{"torch.Tensor", name}};
    if (shape == json.end() || !shape->is_array()) return malformed("a tensor without shape");
    tensor.dtype = *dtype;
    for (const Json& extent : *shape) {
      if (!extent.is_number_integer() || extent.get<std::int64_t>() < 0) return malformed("an extent that is no length");
      tensor.shape.push_back(extent.get<std::int64_t>());
    }
    if (!element_count(tensor.shape)) return malformed("a tensor with more elements than there can be");
    return Value{std::move(tensor)};
  }

  std::size_t tensors_ = 0;
};

}  // namespace

std::optional<Json> parse_cbor(std::string_view payload) {
  DepthGuard guard;
  if (!Json::sax_parse(payload.begin(), payload.end(), &guard, Json::input_format_t::cbor)) return {};
  Json json = Json::from_cbor(payload.begin(), payload.end(), true, false);
  if (json.is_discarded()) return {};
  return json;
}

std::optional<ValuesRecord> as_values(std::string_view payload) {
  // {"hash": <16 bytes>, "record": "values", "values": <bytes>}
  constexpr std::string_view before = "\xa3\x64hash\x50", between = "\x66record\x66values\x66values";
  constexpr std::size_t hash_at = before.size(), head_at = hash_at + 16 + between.size();
  if (!payload.starts_with(before) || payload.size() <= head_at || payload.substr(hash_at + 16, between.size()) != between)
    return {};
  // The head of a byte string: its length in five bits, or in 1, 2, 4 or 8 bytes.
  const auto head = static_cast<unsigned char>(payload[head_at]);
  const unsigned info = head & 0x1f;
  if (head >> 5 != 2 || info > 27) return {};
  const std::size_t length_bytes = info < 24 ? 0 : std::size_t{1} << (info - 24);
  ValuesRecord record{to_hash(payload.substr(hash_at, 16)), head_at + 1 + length_bytes, info < 24 ? info : 0};
  if (record.begin > payload.size()) return {};
  for (const char byte : payload.substr(head_at + 1, length_bytes)) record.size = record.size << 8 | static_cast<unsigned char>(byte);
  if (record.size != payload.size() - record.begin) return {};
  return record;
}

Result<CallGroup> parse_group(const Json& json) {
  if (!json.is_object() || !json.contains("form") || !json.contains("count")) return malformed("calls without form or count");
  CallGroup group;
  std::int64_t form = 0, count = 0, wrapper = 0, raised = 0;
  if (!number(json, "form", most_numbers, form) || !number(json, "count", most, count) || !number(json, "wrapper", most_numbers, wrapper) ||
      !number(json, "raised", most, raised) || !number(json, "sequences", most, group.sequences))
    return malformed("calls with a number that is none, or out of its range");
  group.form = static_cast<std::uint32_t>(form);
  group.count = static_cast<std::uint64_t>(count);
  group.wrapper = static_cast<std::uint32_t>(wrapper);
  group.raised = static_cast<std::uint64_t>(std::min(raised, count));
  group.is_dummy = is_set(json, "dummy");
  group.is_nested = is_set(json, "nested");
  group.is_replayed = is_set(json, "replayed");
  if (const auto addresses = json.find("addresses"); addresses != json.end() && addresses->is_array())
    for (const Json& address : *addresses) group.addresses.push_back(address.is_number_unsigned() ? address.get<std::uint64_t>() : 0);
  const auto values = json.find("values");
  if (values == json.end()) return group;
  if (!values->is_array()) return malformed("values that are no list");
  for (const Json& item : *values) {
    if (!item.is_object()) return malformed("values of no known form");
    CallValues parsed;
    std::int64_t tensor = 0, entries = 0;
    if (!number(item, "tensor", most_numbers, tensor) || !number(item, "count", most, entries))
      return malformed("values with a number that is none, or out of its range");
    parsed.tensor = static_cast<std::uint32_t>(tensor);
    parsed.count = static_cast<std::uint64_t>(entries);
    const std::string state = string_member(item, "state");
    parsed.state = state == "kept"          ? CallValues::State::kept
                   : state == "sampled_out" ? CallValues::State::sampled_out
                                            : CallValues::State::lost;
    if (const auto hash = item.find("hash"); hash != item.end() && hash->is_binary() && hash->get_binary().size() == 16)
      parsed.hash = to_hash({reinterpret_cast<const char*>(hash->get_binary().data()), 16});
    group.values.push_back(parsed);
  }
  return group;
}

Result<std::vector<std::pair<std::string, Value>>> parse_arguments(const Json& json) {
  if (!json.is_array()) return malformed("arguments that are no list");
  std::vector<std::pair<std::string, Value>> arguments;
  ArgumentParser parser;
  for (const Json& item : json) {
    if (!item.is_array() || item.size() != 2 || !item[0].is_string()) return malformed("an argument without name or value");
    CW_TRY(Value value, parser.value(item[1]));
    arguments.emplace_back(item[0].get<std::string>(), std::move(value));
  }
  return arguments;
}

}  // namespace cw::recording
