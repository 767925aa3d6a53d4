#include <algorithm>

#include <fcntl.h>

#include "capture/level10/tensor_file.h"
#include "tensor/safetensors.h"

namespace cw::level10 {
namespace {

// Most headers of a dump fit; a plan's index tensors often do too, and then need no second read.
constexpr std::size_t first_read = 8192;
constexpr std::size_t parser_padding = 64;

class SafetensorsFile final : public TensorFile {
 public:
  SafetensorsFile(std::string path, std::string front, std::vector<SafetensorsEntry> entries)
      : path_(std::move(path)), front_(std::move(front)) {
    begins_.reserve(entries.size());
    entries_.reserve(entries.size());
    for (SafetensorsEntry& entry : entries) {
      begins_.push_back(entry.begin);
      entries_.push_back({std::move(entry.name), entry.dtype, std::move(entry.shape)});
    }
  }

  Result<std::string> read(std::size_t entry, std::uint64_t count) const override {
    const auto size = byte_count(entries_[entry].dtype, count);
    if (!size)
      return fail("unsupported_dtype", "{}: {} elements of {} do not fill whole bytes", path_,
                  count, trace_name(entries_[entry].dtype));
    if (begins_[entry] + *size <= front_.size()) return front_.substr(begins_[entry], *size);
    CW_TRY(const FileDescriptor file, open_for_reading(AT_FDCWD, path_));
    std::string bytes(*size, '\0');
    CW_CHECK(read_exactly(file, begins_[entry], *size, bytes.data(), path_));
    return bytes;
  }

 private:
  std::string path_;
  std::string front_;  ///< the whole file, or nothing
  std::vector<std::uint64_t> begins_;
};

}  // namespace

Result<std::shared_ptr<const TensorFile>> open_safetensors_file(int directory,
                                                                const std::string& path,
                                                                const std::string& full_path) {
  const auto in_file = [&full_path](Error error) {
    return Error{std::move(error.code), full_path + ": " + error.message};
  };
  static thread_local std::string front;
  CW_TRY(const FileDescriptor file, open_for_reading(directory, path));
  CW_TRY(const std::uint64_t size, file_size(file, full_path));
  std::size_t have = std::min<std::uint64_t>(size, first_read);
  if (front.size() < first_read + parser_padding) front.resize(first_read + parser_padding);
  CW_CHECK(read_exactly(file, 0, have, front.data(), full_path));
  CW_TRY(const std::uint64_t header_size,
         safetensors_header_size(std::string_view(front).substr(0, have), size).map_error(in_file));
  if (8 + header_size > have) {
    if (front.size() < 8 + header_size + parser_padding)
      front.resize(8 + header_size + parser_padding);
    CW_CHECK(read_exactly(file, have, 8 + header_size - have, front.data() + have, full_path));
    have = 8 + header_size;
  }
  CW_TRY(auto entries,
         parse_safetensors_header(std::string_view(front).substr(8, header_size), size)
             .map_error(in_file));

  // Small files are plans: their index tensors will be wanted, and are here already.
  std::string kept = size <= have ? front.substr(0, have) : std::string();
  return std::make_shared<const SafetensorsFile>(full_path, std::move(kept), std::move(entries));
}

std::optional<std::size_t> TensorFile::find(std::string_view name) const {
  const auto found =
      std::ranges::find_if(entries_, [name](const auto& e) { return e.name == name; });
  if (found == entries_.end()) return std::nullopt;
  return static_cast<std::size_t>(found - entries_.begin());
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
