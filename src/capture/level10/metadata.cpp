#include "capture/level10/metadata.h"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <limits>

#include <simdjson.h>

namespace cw::level10 {
namespace {

namespace json = simdjson::ondemand;

// FlashInfer stops at 8 levels of containers; a sequence costs two JSON levels.
constexpr int max_depth = 32;
// One byte of text can take fifty of memory; a real record has about ten thousand bytes and a few
// hundred values.
constexpr std::size_t max_record_length = 8 << 20, max_values = 100'000;
thread_local std::size_t values_left = 0;

// Malformed content that simdjson has no error for.
struct Malformed {
  std::string why;
};

std::string_view token_of(json::value& value) {
  std::string_view token = value.raw_json_token();
  while (!token.empty() && std::string_view(" \t\r\n").find(token.back()) != std::string_view::npos)
    token.remove_suffix(1);
  return token;
}

// Numbers as Python prints them. Integers past 64 bits become doubles: nothing that large is a
// shape or an index, and a double keeps their magnitude.
RecordedValue parse_number(std::string_view token) {
  if (token == "NaN") return {std::numeric_limits<double>::quiet_NaN()};
  if (token == "Infinity") return {std::numeric_limits<double>::infinity()};
  if (token == "-Infinity") return {-std::numeric_limits<double>::infinity()};
  const char* const end = token.data() + token.size();
  std::int64_t integer = 0;
  if (const auto parsed = std::from_chars(token.data(), end, integer);
      parsed.ec == std::errc() && parsed.ptr == end)
    return {integer};
  double real = 0;
  const auto parsed = std::from_chars(token.data(), end, real);
  if (parsed.ec == std::errc() && parsed.ptr == end) return {real};
  // Past a double's range: infinity, or zero when it is too small. from_chars does not say which.
  if (parsed.ec == std::errc::result_out_of_range && parsed.ptr == end)
    return {std::strtod(std::string(token).c_str(), nullptr)};
  throw Malformed{fmt::format("'{}' is no JSON value", token.substr(0, 40))};
}

RecordedValue parse_value(json::value value, int depth);

RecordedValue parse_items(json::array array, int depth) {
  RecordedSequence sequence;
  for (auto item : array) sequence.items.push_back(parse_value(item.value(), depth + 1));
  return {std::move(sequence)};
}

// {"type": "tuple" | "torch.Tensor" | "torch.dtype" | "enum" | "dict" | anything with a "repr", …
RecordedValue parse_described(json::object object, int depth) {
  std::string type, tensor_key, name, text;
  RecordedValue value, items;
  bool has_items = false, truncated = false;

  for (auto field : object) {
    const std::string_view key = field.unescaped_key();
    if (key == "type")
      type = std::string_view(field.value().get_string());
    else if (key == "tensor_key")
      tensor_key = std::string_view(field.value().get_string());
    else if (key == "name")
      name = std::string_view(field.value().get_string());
    else if (key == "repr")
      text = std::string_view(field.value().get_string());
    else if (key == "truncated")
      truncated = field.value().get_bool();
    else if (key == "value")
      value = parse_value(field.value(), depth + 1);
    else if (key == "items" && type != "dict")
      items = parse_items(field.value().get_array(), depth), has_items = true;
  }

  // Classify it by the fields it has.
  if (!tensor_key.empty()) return {TensorKey{std::move(tensor_key)}};
  if (has_items || (truncated && type != "dict")) {
    RecordedSequence sequence =
        has_items ? std::get<RecordedSequence>(std::move(items.data)) : RecordedSequence{};
    sequence.truncated = truncated;
    return {std::move(sequence)};
  }

  if (type == "enum")
    if (const auto* number = std::get_if<std::int64_t>(&value.data))
      return {RecordedEnum{std::move(name), *number}};
  if (const auto* string = std::get_if<std::string>(&value.data)) text = *string;
  return {RecordedOpaque{std::move(type), std::move(text)}};
}

RecordedValue parse_value(json::value value, int depth) {
  if (depth > max_depth) throw Malformed{"values are nested too deeply"};
  if (values_left-- == 0) throw Malformed{"there are too many values"};

  const std::string_view token = token_of(value);
  if (token.empty()) throw Malformed{"a value is missing"};
  switch (token[0]) {
    case '{':
      return parse_described(value.get_object(), depth);
    case '[':
      return parse_items(value.get_array(), depth);
    case '"':
      return {std::string(std::string_view(value.get_string()))};
    case 't':
    case 'f':
      return {bool(value.get_bool())};
    case 'n':
      if (!value.is_null())
        throw Malformed{fmt::format("'{}' is no JSON value", token.substr(0, 40))};
      return {};
    default:
      return parse_number(token);
  }
}

Shape parse_shape(json::array array) {
  Shape shape;
  for (auto extent : array) {
    if (values_left-- == 0) throw Malformed{"there are too many values"};
    shape.push_back(extent.get_int64());
  }
  return shape;
}

std::vector<TensorDetail> parse_tensors(json::object object) {
  std::vector<TensorDetail> tensors;
  tensors.reserve(8);
  for (auto field : object) {
    if (values_left-- == 0) throw Malformed{"there are too many values"};
    TensorDetail tensor{
        .key = std::string(std::string_view(field.unescaped_key())), .dtype = {}, .shape = {}};
    for (auto property : field.value().get_object()) {
      const std::string_view key = property.unescaped_key();
      if (key == "shape")
        tensor.shape = parse_shape(property.value().get_array());
      else if (key == "dtype")
        tensor.dtype = std::string_view(property.value().get_string());
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

void parse_field(std::string_view key, json::value value, Record& record) {
  if (key == "function_name")
    record.function = std::string_view(value.get_string());
  else if (key == "module")
    record.module = std::string_view(value.get_string());
  else if (key == "process_id")
    record.process = value.get_int64();
  else if (key == "self_id")
    record.self = value.get_uint64();
  else if (key == "execution_status")
    record.status = std::string_view(value.get_string());
  else if (key == "function_signature")
    record.signature = std::string_view(value.get_string());
  else if (key == "graph_capture")
    record.graph_capture = value.get_bool();
  else if (key == "simulated")
    record.is_simulated = value.get_bool();
  else if (key == "graph_capture_flush_index")
    record.flush_index = static_cast<unsigned>(std::uint64_t(value.get_uint64()));
  else if (key == "tensor_details")
    record.tensors = parse_tensors(value.get_object());

  else if (key == "input_metadata") {
    for (auto input : value.get_object()) {
      std::string name(std::string_view(input.unescaped_key()));
      record.inputs.emplace_back(std::move(name), parse_value(input.value(), 0));
    }
  } else if (key == "versions") {
    for (auto version : value.get_object())
      if (std::string_view(version.unescaped_key()) == "flashinfer")
        record.flashinfer_version = std::string_view(version.value().get_string());
  }
}

}  // namespace

Result<Record> parse_record(std::string_view line) {
  static thread_local json::parser parser;
  if (line.size() > max_record_length)
    return fail("metadata_malformed", "a record of {} bytes", line.size());

  values_left = max_values;
  Record record;
  record.inputs.reserve(16);
  try {
    auto document =
        parser.iterate(line.data(), line.size(), line.size() + simdjson::SIMDJSON_PADDING);
    for (auto field : document.get_object()) {
      // The key lives in the parser's buffer only until the value is read.
      const std::string key(std::string_view(field.unescaped_key()));
      parse_field(key, field.value(), record);
    }
    if (!document.current_location().error())
      return fail("metadata_malformed", "a record continues after its JSON object");
  } catch (const simdjson::simdjson_error& error) {
    return fail("metadata_malformed", "a record is not valid JSON: {}", error.what());
  } catch (const Malformed& error) {
    return fail("metadata_malformed", "a record is not valid JSON: {}", error.why);
  }

  if (record.function.empty() || record.status.empty())
    return fail("metadata_malformed", "a record has no function_name or execution_status");
  return record;
}

Result<Record> parse_last_record(std::string_view content) {
  Result<Record> record = fail("metadata_malformed", "it contains no record");
  while (!record && !content.empty()) {
    const std::size_t end = content.find_last_not_of(" \r\n");
    if (end == std::string_view::npos) break;
    content = content.substr(0, end + 1);
    // std::string's rfind goes byte by byte.
    const void* const newline = ::memrchr(content.data(), '\n', content.size());
    const std::size_t begin =
        newline == nullptr
            ? 0
            : static_cast<std::size_t>(static_cast<const char*>(newline) + 1 - content.data());
    record = parse_record(content.substr(begin));
    content = content.substr(0, begin);
  }
  return record;
}

}  // namespace cw::level10
