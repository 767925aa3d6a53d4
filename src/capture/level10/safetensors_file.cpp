#include <algorithm>
#include <array>

#include <fcntl.h>

#include "base/hash.h"
#include "capture/level10/tensor_file.h"
#include "tensor/safetensors.h"

namespace cw::level10 {
namespace {

// A file of this size is read at once: a plan's index tensors, which will be wanted. Of a larger
// one a page is read: most headers fit.
constexpr std::size_t small_file = 8192, first_read = 4096;
constexpr std::size_t parser_padding = 64;

// What headers of one text say of files of one size.
struct Header {
  std::string text;
  std::uint64_t file_size = 0;
  std::vector<TensorFileEntry> entries;
  std::vector<std::uint64_t> begins;  ///< offsets in the file
};

// Headers repeat, as most calls of a function have the same shapes: parsed once, shared by files.
Result<std::shared_ptr<const Header>> shared_header(std::string_view text,
                                                    std::uint64_t file_size) {
  constexpr std::size_t slots = 64, max_text = 16 << 10;
  static thread_local std::array<std::shared_ptr<const Header>, slots> known;
  auto& slot = known[(xxh3_64(text) + file_size) % slots];
  if (slot && slot->file_size == file_size && slot->text == text) return slot;

  CW_TRY(auto parsed, parse_safetensors_header(text, file_size));
  auto header = std::make_shared<Header>();
  header->file_size = file_size;
  header->entries.reserve(parsed.size());
  header->begins.reserve(parsed.size());
  for (SafetensorsEntry& entry : parsed) {
    header->entries.push_back({std::move(entry.name), entry.dtype, std::move(entry.shape)});
    header->begins.push_back(entry.begin);
  }
  if (text.size() > max_text) return header;
  header->text = text;
  return slot = std::move(header);
}

class SafetensorsFile final : public TensorFile {
 public:
  SafetensorsFile(std::string path, std::string front, std::shared_ptr<const Header> header)
      : path_(std::move(path)), front_(std::move(front)), header_(std::move(header)) {}

  const std::vector<TensorFileEntry>& entries() const override { return header_->entries; }

  Result<std::string> read(std::size_t entry, std::uint64_t count) const override {
    const DType dtype = entries()[entry].dtype;
    const std::uint64_t begin = header_->begins[entry];
    const auto size = byte_count(dtype, count);
    if (!size)
      return fail("unsupported_dtype", "{}: {} elements of {} do not fill whole bytes", path_,
                  count, trace_name(dtype));
    if (begin + *size <= front_.size()) return front_.substr(begin, *size);
    CW_TRY(const FileDescriptor file, open_for_reading(AT_FDCWD, path_));
    std::string bytes(*size, '\0');
    CW_CHECK(read_exactly(file, begin, *size, bytes.data(), path_));
    return bytes;
  }

 private:
  std::string path_;
  std::string front_;  ///< the whole file, or nothing
  std::shared_ptr<const Header> header_;
};

}  // namespace

Result<std::shared_ptr<const TensorFile>> open_safetensors_file(int directory,
                                                                const std::string& path,
                                                                const std::string& full_path) {
  const auto in_file = [&full_path](Error error) {
    return Error{std::move(error.code), full_path + ": " + error.message};
  };
  static thread_local std::string front;
  CW_TRY(const SizedFile opened, open_with_size(directory, path));
  const auto& [file, size] = opened;
  std::size_t have = size <= small_file ? size : first_read;
  if (front.size() < small_file + parser_padding) front.resize(small_file + parser_padding);
  CW_CHECK(read_exactly(file, 0, have, front.data(), full_path));
  CW_TRY(const std::uint64_t header_size,
         safetensors_header_size(std::string_view(front).substr(0, have), size).map_error(in_file));
  if (8 + header_size > have) {
    if (front.size() < 8 + header_size + parser_padding)
      front.resize(8 + header_size + parser_padding);
    CW_CHECK(read_exactly(file, have, 8 + header_size - have, front.data() + have, full_path));
    have = 8 + header_size;
  }
  CW_TRY(auto header,
         shared_header(std::string_view(front).substr(8, header_size), size).map_error(in_file));

  std::string kept = size <= have ? front.substr(0, have) : std::string();
  return std::make_shared<const SafetensorsFile>(full_path, std::move(kept), std::move(header));
}

std::optional<std::size_t> TensorFile::find(std::string_view name) const {
  const auto& all = entries();
  const auto found = std::ranges::find_if(all, [name](const auto& e) { return e.name == name; });
  if (found == all.end()) return std::nullopt;
  return static_cast<std::size_t>(found - all.begin());
}

Result<std::shared_ptr<const TensorFile>> open_tensor_file(int directory, const std::string& folder,
                                                           const std::string& directory_path,
                                                           const std::string& stem) {
  const std::string safetensors = folder + "/" + stem + ".safetensors";
  auto file = open_safetensors_file(directory, safetensors, directory_path + "/" + safetensors);
  if (file || file.error().code != "not_found") return file;
  const std::string archive = folder + "/" + stem + ".pt";
  file = open_torch_archive(directory, archive, directory_path + "/" + archive);
  if (file || file.error().code != "not_found") return file;
  return nullptr;
}

}  // namespace cw::level10
