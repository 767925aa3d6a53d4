#include "capture/level10/metadata.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>

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

namespace {

// Takes the last line that is not empty off `content`; empty when there is none.
std::string_view take_last_line(std::string_view& content) {
  const std::size_t end = content.find_last_not_of(" \r\n");
  if (end == std::string_view::npos) return {};
  const std::string_view text = content.substr(0, end + 1);
  // std::string's rfind goes byte by byte.
  const void* const newline = ::memrchr(text.data(), '\n', text.size());
  const std::size_t begin =
      newline == nullptr
          ? 0
          : static_cast<std::size_t>(static_cast<const char*>(newline) + 1 - text.data());
  content = text.substr(0, begin);
  return text.substr(begin);
}

// The parts of a line that a Record depends on, in the order in which FlashInfer writes its
// members. Nothing if they come otherwise, or if what is left out is not the simplest JSON: then
// two lines of equal parts need not be equally valid.
struct Parts {
  std::string_view head, body;
};
std::optional<Parts> parts_of(std::string_view line) {
  constexpr std::string_view number = "\"call_sequence\": ", time = ", \"timestamp\": \"";
  constexpr std::string_view folder = "\"dump_dir\": \"";

  // {"function_name": …, "module": …, "call_sequence": 17, "timestamp": "20261122_192854_644", …
  const std::size_t first = line.find(number);
  if (first == std::string_view::npos || line.substr(0, first).find_first_of("[]\\") != line.npos ||
      line.find('{', 1) < first)
    return std::nullopt;
  std::string_view rest = line.substr(first + number.size());
  const std::size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
  if (digits == 0 || (digits > 1 && rest[0] == '0')) return std::nullopt;
  rest.remove_prefix(digits);
  if (!rest.starts_with(time)) return std::nullopt;
  rest.remove_prefix(time.size());
  rest.remove_prefix(std::min(rest.find_first_not_of("0123456789_"), rest.size()));

  // … "dump_dir": "/dumps/20261122_192854_644_pid24882_rmsnorm_call0017"}
  if (!rest.starts_with("\", ") || !rest.ends_with("\"}")) return std::nullopt;
  rest.remove_suffix(2);
  const std::size_t last = rest.rfind(folder);
  if (last == std::string_view::npos) return std::nullopt;
  const std::string_view path = rest.substr(last + folder.size());
  const auto is_plain = [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; };
  if (!std::ranges::all_of(path, is_plain)) return std::nullopt;
  return Parts{line.substr(0, first), rest.substr(0, last)};
}

// Also sets the line that it was in.
Result<Record> parse_last_record(std::string_view content, std::string_view& line) {
  Result<Record> record = fail("metadata_malformed", "it contains no record");
  while (!record) {
    line = take_last_line(content);
    if (line.empty()) break;
    record = parse_record(line);
  }
  return record;
}

}  // namespace

Result<Record> parse_last_record(std::string_view content) {
  std::string_view line;
  return parse_last_record(content, line);
}

Result<std::shared_ptr<const Record>> RecordReader::last_record(std::string_view content,
                                                                std::size_t function) {
  constexpr std::size_t max_line = 64 << 10;
  std::string_view before = content;
  const std::string_view last = take_last_line(before);
  const auto parts = last.size() <= max_line ? parts_of(last) : std::nullopt;
  Known& known = known_[function % known_.size()];
  if (parts && known.record && known.head == parts->head && known.body == parts->body)
    return known.record;

  std::string_view line;
  CW_TRY(Record parsed, parse_last_record(content, line));
  auto record = std::make_shared<const Record>(std::move(parsed));
  if (parts && line.data() == last.data()) {
    known.head = parts->head;
    known.body = parts->body;
    known.record = record;
  }
  return record;
}

}  // namespace cw::level10
