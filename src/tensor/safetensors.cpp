#include "tensor/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <fcntl.h>
#include <simdjson.h>

#include "base/file.h"
#include "base/json.h"

namespace cw {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors and dumps are little-endian");

constexpr std::uint64_t length_size = 8;
constexpr std::uint64_t max_header = 100'000'000;  // as in the reference implementation
constexpr std::string_view malformed = "safetensors_malformed";

template <typename... Args>
tl::unexpected<Error> fail_malformed(fmt::format_string<Args...> format, Args&&... args) {
  return fail(std::string(malformed), format, std::forward<Args>(args)...);
}

Result<SafetensorsEntry> parse_entry(std::string_view name, simdjson::ondemand::object object,
                                     std::uint64_t data_begin, std::uint64_t data_size) {
  SafetensorsEntry entry{std::string(name), DType::uint8, {}, 0, 0};
  bool has_dtype = false, has_shape = false, has_offsets = false;

  for (auto field : object) {
    const std::string_view key = field.unescaped_key();
    if (key == "dtype") {
      const std::string_view text = field.value().get_string();
      const auto dtype = dtype_from_safetensors(text);
      if (!dtype) return fail_malformed("tensor {} has the unknown dtype '{}'", name, text);
      entry.dtype = *dtype;
      has_dtype = true;
    } else if (key == "shape") {
      entry.shape.clear();
      for (auto extent : field.value().get_array()) entry.shape.push_back(extent.get_int64());
      has_shape = true;
    } else if (key == "data_offsets") {
      boost::container::small_vector<std::uint64_t, 2> offsets;
      for (auto offset : field.value().get_array()) offsets.push_back(offset.get_uint64());
      if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_size)
        return fail_malformed("tensor {} has data_offsets outside the file's {} data bytes", name,
                              data_size);
      entry.begin = data_begin + offsets[0];
      entry.end = data_begin + offsets[1];
      has_offsets = true;
    }
  }

  if (!has_dtype || !has_shape || !has_offsets)
    return fail_malformed("tensor {} lacks one of dtype, shape, data_offsets", name);

  // Two float4 values share a byte; shapes here count bytes, as PyTorch does.
  if (entry.dtype == DType::float4_e2m1) {
    if (entry.shape.empty() || entry.shape.back() % 2 != 0)
      return fail_malformed("tensor {}: shape {} of float4 does not fill whole bytes", name,
                            to_string(entry.shape));
    entry.shape.back() /= 2;
  }

  const auto count = element_count(entry.shape);
  const auto bytes = count ? byte_count(entry.dtype, *count) : std::nullopt;
  if (!bytes || *bytes != entry.end - entry.begin)
    return fail_malformed(
        "tensor {}: shape {} of {} does not have the {} bytes of its data_offsets", name,
        to_string(entry.shape), trace_name(entry.dtype), entry.end - entry.begin);
  return entry;
}

Result<void> check_layout(const std::vector<SafetensorsEntry>& entries, std::uint64_t data_begin,
                          std::uint64_t file_size) {
  boost::container::small_vector<std::pair<std::uint64_t, std::uint64_t>, 8> ranges;
  ranges.reserve(entries.size());
  for (const auto& entry : entries) ranges.emplace_back(entry.begin, entry.end);
  std::ranges::sort(ranges);
  std::uint64_t position = data_begin;
  for (const auto& [begin, end] : ranges) {
    if (begin < position) return fail_malformed("two tensors overlap at byte {}", begin);
    if (begin > position) return fail_malformed("no tensor covers bytes {} to {}", position, begin);
    position = end;
  }
  if (position != file_size)
    return fail_malformed("the tensors end at byte {}, the file at byte {}", position, file_size);
  return {};
}

}  // namespace

Result<std::uint64_t> safetensors_header_size(std::string_view first_bytes,
                                              std::uint64_t file_size) {
  if (first_bytes.size() < length_size || file_size < length_size)
    return fail_malformed("{} bytes are too few for a safetensors file", file_size);
  std::uint64_t size;
  std::memcpy(&size, first_bytes.data(), length_size);
  if (size > max_header) return fail_malformed("the header claims {} bytes", size);
  if (size > file_size - length_size)
    return fail_malformed("the header claims {} bytes, the file has {}", size, file_size);
  return size;
}

Result<std::vector<SafetensorsEntry>> parse_safetensors_header(std::string_view header,
                                                               std::uint64_t file_size) {
  static thread_local simdjson::ondemand::parser parser;
  const std::uint64_t data_begin = length_size + header.size();
  std::vector<SafetensorsEntry> entries;

  // Each tensor's entry.
  try {
    auto document =
        parser.iterate(header.data(), header.size(), header.size() + simdjson::SIMDJSON_PADDING);
    for (auto field : document.get_object()) {
      const std::string name(std::string_view(field.unescaped_key()));
      if (name == "__metadata__") continue;
      CW_TRY(auto entry,
             parse_entry(name, field.value().get_object(), data_begin, file_size - data_begin));
      entries.push_back(std::move(entry));
    }
    if (!document.current_location().error())
      return fail_malformed("the header continues after its JSON object");
  } catch (const simdjson::simdjson_error& error) {
    return fail_malformed("the header is not valid JSON: {}", error.what());
  }

  // Names are unique, and the data has neither gaps nor overlaps.
  boost::container::small_vector<std::string_view, 8> names;
  names.reserve(entries.size());
  for (const auto& entry : entries) names.push_back(entry.name);
  std::ranges::sort(names);
  if (const auto twice = std::ranges::adjacent_find(names); twice != names.end())
    return fail_malformed("two tensors are called {}", *twice);

  CW_CHECK(check_layout(entries, data_begin, file_size));
  return entries;
}

Result<std::vector<SafetensorsEntry>> read_safetensors_header(const std::string& path) {
  CW_TRY(const FileDescriptor file, open_for_reading(AT_FDCWD, path));
  CW_TRY(const std::uint64_t size, file_size(file, path));
  std::string first(std::min<std::uint64_t>(size, length_size), '\0');
  CW_CHECK(read_exactly(file, 0, first.size(), first.data(), path));
  const auto in_file = [&path](Error error) {
    return Error{std::move(error.code), path + ": " + error.message};
  };
  CW_TRY(const std::uint64_t header_size, safetensors_header_size(first, size).map_error(in_file));
  std::string header(header_size + simdjson::SIMDJSON_PADDING, '\0');
  CW_CHECK(read_exactly(file, length_size, header_size, header.data(), path));
  return parse_safetensors_header(std::string_view(header).substr(0, header_size), size)
      .map_error(in_file);
}

std::string write_safetensors(
    const std::vector<std::pair<std::string, const DenseTensor*>>& tensors) {
  Json header = Json::object();
  std::uint64_t position = 0;
  for (const auto& [name, tensor] : tensors) {
    Shape shape = tensor->shape;
    if (tensor->dtype == DType::float4_e2m1 && !shape.empty()) shape.back() *= 2;
    header[name] = {{"dtype", safetensors_name(tensor->dtype)},
                    {"shape", shape},
                    {"data_offsets", {position, position + tensor->bytes.size()}}};
    position += tensor->bytes.size();
  }
  std::string json = dump(header);
  json.resize((json.size() + 7) / 8 * 8, ' ');  // data starts aligned, as the reference writer does
  const std::uint64_t size = json.size();
  std::string file(reinterpret_cast<const char*>(&size), length_size);
  file += json;
  for (const auto& [name, tensor] : tensors) file += tensor->bytes;
  return file;
}

}  // namespace cw
