// torch.save's archive: a zip of uncompressed members {prefix}/data.pkl (the pickle),
// {prefix}/data/N (one storage each), {prefix}/byteorder. Source: torch/serialization.py, _save,
// and caffe2/serialize/inline_container.cc.

#include <algorithm>
#include <map>
#include <memory>

#include <fcntl.h>
#include <unistd.h>
#include <zip.h>

#include "capture/level10/pickle.h"
#include "capture/level10/tensor_file.h"

namespace cw::level10 {
namespace {

// A pickle of tensors takes a few hundred bytes per tensor.
constexpr std::uint64_t max_pickle = 16 << 20;
constexpr std::int64_t max_members = 100'000;

using Archive = std::unique_ptr<zip_t, void (*)(zip_t*)>;
using Member = std::unique_ptr<zip_file_t, int (*)(zip_file_t*)>;

template <typename... Args>
tl::unexpected<Error> malformed_archive(fmt::format_string<Args...> format, Args&&... args) {
  return fail("torch_archive_malformed", format, std::forward<Args>(args)...);
}

Result<Archive> open_archive(int directory, const std::string& path, const std::string& full_path) {
  CW_TRY(const FileDescriptor file, open_for_reading(directory, path));
  int code = ZIP_ER_OK;
  const int owned = ::dup(file.get());  // zip_fdopen takes the descriptor over when it succeeds
  Archive archive(zip_fdopen(owned, 0, &code), zip_discard);
  if (!archive) {
    ::close(owned);
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string why = zip_error_strerror(&error);
    zip_error_fini(&error);
    return malformed_archive("{}: {}", full_path, why);
  }
  return archive;
}

// Members are read by index into memory of bounded size; nothing is ever unpacked to a path.
Result<std::string> read_member(zip_t* archive, zip_uint64_t index, std::uint64_t offset,
                                std::uint64_t size, const std::string& full_path) {
  const Member member(zip_fopen_index(archive, index, 0), zip_fclose);
  if (!member)
    return malformed_archive("{}: member {}: {}", full_path, index, zip_strerror(archive));
  if (offset > 0 && zip_fseek(member.get(), static_cast<zip_int64_t>(offset), SEEK_SET) != 0)
    return malformed_archive("{}: member {} cannot be read from byte {} on", full_path, index,
                             offset);
  std::string bytes(size, '\0');
  for (std::uint64_t have = 0; have < size;) {
    const zip_int64_t got = zip_fread(member.get(), bytes.data() + have, size - have);
    if (got <= 0)
      return malformed_archive("{}: member {} ends too early or is damaged", full_path, index);
    have += static_cast<std::uint64_t>(got);
  }
  // libzip verifies the checksum at the end of a member that was read from its beginning.
  char beyond;
  if (offset == 0 && zip_fread(member.get(), &beyond, 1) < 0)
    return malformed_archive("{}: member {} is damaged: its checksum differs", full_path, index);
  return bytes;
}

struct StoredMember {
  zip_uint64_t index;
  std::uint64_t size;
};

// Member name without the archive's prefix -> where it is. torch never compresses, so a compressed
// member is refused: it could be far larger than the file.
Result<std::map<std::string, StoredMember>> list_members(zip_t* archive,
                                                         const std::string& full_path) {
  std::map<std::string, StoredMember> members;
  const zip_int64_t count = zip_get_num_entries(archive, 0);
  if (count < 0 || count > max_members)
    return malformed_archive("{}: {} members", full_path, count);
  for (zip_uint64_t i = 0; i < static_cast<zip_uint64_t>(count); ++i) {
    zip_stat_t status;
    if (zip_stat_index(archive, i, 0, &status) != 0 || status.name == nullptr)
      return malformed_archive("{}: member {} has no name", full_path, i);
    const std::string_view name = status.name;
    if (status.comp_method != ZIP_CM_STORE || status.encryption_method != ZIP_EM_NONE ||
        status.comp_size != status.size)
      return fail("torch_archive_refused",
                  "{}: member {} is compressed or encrypted, which torch.save never does",
                  full_path, name);
    const std::size_t slash = name.find('/');
    if (slash == std::string_view::npos) continue;
    members.emplace(name.substr(slash + 1), StoredMember{i, status.size});
  }
  return members;
}

class TorchArchive final : public TensorFile {
 public:
  const std::vector<TensorFileEntry>& entries() const override { return entries_; }

  static Result<std::shared_ptr<const TensorFile>> open(int directory, const std::string& path,
                                                        const std::string& full_path) {
    CW_TRY(const Archive archive, open_archive(directory, path, full_path));
    CW_TRY(const auto members, list_members(archive.get(), full_path));
    const auto pickle = members.find("data.pkl");
    if (pickle == members.end()) return malformed_archive("{}: contains no data.pkl", full_path);
    if (pickle->second.size > max_pickle)
      return fail("torch_archive_refused", "{}: data.pkl has {} bytes", full_path,
                  pickle->second.size);
    if (const auto order = members.find("byteorder"); order != members.end()) {
      CW_TRY(const std::string text,
             read_member(archive.get(), order->second.index, 0,
                         std::min<std::uint64_t>(order->second.size, 8), full_path));
      if (text != "little") return malformed_archive("{}: byte order '{}'", full_path, text);
    }
    CW_TRY(const std::string program,
           read_member(archive.get(), pickle->second.index, 0, pickle->second.size, full_path));
    auto tensors = parse_pickled_tensors(program);
    if (!tensors) return fail(tensors.error().code, "{}: {}", full_path, tensors.error().message);

    auto file = std::make_shared<TorchArchive>();
    file->path_ = full_path;
    for (PickledTensor& tensor : *tensors) {
      const auto member = members.find("data/" + tensor.storage);
      if (member == members.end())
        return malformed_archive("{}: tensor {} has no storage", full_path, tensor.name);
      CW_CHECK(check_bounds(tensor, member->second.size, full_path));
      file->entries_.push_back({tensor.name, tensor.dtype, tensor.shape});
      file->members_.push_back(member->second.index);
      file->tensors_.push_back(std::move(tensor));
    }
    return file;
  }

  Result<std::string> read(std::size_t entry, std::uint64_t count) const override {
    const PickledTensor& tensor = tensors_[entry];
    if (count == 0) return std::string();
    const std::uint64_t element = bits(tensor.dtype) / 8;
    // The storage's elements from the tensor's first to the last one needed.
    const bool contiguous = is_contiguous(tensor);
    const std::uint64_t last = contiguous ? count - 1 : furthest(tensor, count - 1);
    CW_TRY(const Archive archive, open_archive(AT_FDCWD, path_, path_));
    CW_TRY(std::string span,
           read_member(archive.get(), members_[entry], tensor.storage_offset * element,
                       (last + 1) * element, path_));
    if (contiguous) return span;
    std::string bytes;
    bytes.reserve(count * element);
    for (std::uint64_t i = 0; i < count; ++i)
      bytes.append(span, offset_of(tensor, i) * element, element);
    return bytes;
  }

 private:
  std::vector<TensorFileEntry> entries_;
  // Offset in elements of row-major element `index` from the tensor's first.
  static std::uint64_t offset_of(const PickledTensor& tensor, std::uint64_t index) {
    std::uint64_t offset = 0;
    for (std::size_t axis = tensor.shape.size(); axis-- > 0;) {
      const auto extent = static_cast<std::uint64_t>(tensor.shape[axis]);
      offset += index % extent * static_cast<std::uint64_t>(tensor.stride[axis]);
      index /= extent;
    }
    return offset;
  }

  // No element up to row-major `index` lies further than this from the first.
  static std::uint64_t furthest(const PickledTensor& tensor, std::uint64_t index) {
    std::uint64_t offset = 0;
    for (std::size_t axis = tensor.shape.size(); axis-- > 0;) {
      const auto extent = static_cast<std::uint64_t>(tensor.shape[axis]);
      offset += std::min(index, extent - 1) * static_cast<std::uint64_t>(tensor.stride[axis]);
      index /= extent;
    }
    return offset;
  }

  static bool is_contiguous(const PickledTensor& tensor) {
    std::int64_t expected = 1;
    for (std::size_t axis = tensor.shape.size(); axis-- > 0;) {
      if (tensor.shape[axis] != 1 && tensor.stride[axis] != expected) return false;
      expected *= tensor.shape[axis];
    }
    return true;
  }

  static Result<void> check_bounds(const PickledTensor& tensor, std::uint64_t storage_bytes,
                                   const std::string& full_path) {
    if (bits(tensor.dtype) % 8 != 0)
      return malformed_archive("{}: tensor {} has elements of half a byte", full_path, tensor.name);
    std::uint64_t reach = tensor.storage_offset;
    bool overflow = false, empty = false;
    for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) {
      empty |= tensor.shape[axis] == 0;
      std::uint64_t step = 0;
      overflow |= __builtin_mul_overflow(
          static_cast<std::uint64_t>(std::max<std::int64_t>(tensor.shape[axis] - 1, 0)),
          static_cast<std::uint64_t>(tensor.stride[axis]), &step);
      overflow |= __builtin_add_overflow(reach, step, &reach);
    }
    if (!empty && (overflow || reach >= storage_bytes / (bits(tensor.dtype) / 8)))
      return malformed_archive("{}: tensor {} reaches past the {} bytes of its storage", full_path,
                               tensor.name, storage_bytes);
    return {};
  }

  std::string path_;
  std::vector<PickledTensor> tensors_;
  std::vector<zip_uint64_t> members_;
};

}  // namespace

Result<std::shared_ptr<const TensorFile>> open_torch_archive(int directory, const std::string& path,
                                                             const std::string& full_path) {
  return TorchArchive::open(directory, path, full_path);
}

}  // namespace cw::level10
