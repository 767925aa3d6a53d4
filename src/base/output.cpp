#include "base/output.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cw {
namespace {

Result<FileDescriptor> open_for_writing(const std::filesystem::path& path, int how,
                                        Access access = Access::shared) {
  FileDescriptor file = open_to_write(path, O_WRONLY | how, access);
  if (!file)
    return fail(errno == EEXIST ? "exists" : "unwritable", "cannot write {}: {}", path.string(),
                std::strerror(errno));
  return file;
}

}  // namespace

Result<OutputFile> OutputFile::create(const std::filesystem::path& path, Access access) {
  CW_CHECK(make_directories(path.parent_path()));
  OutputFile output;
  output.name_ = path.string();
  CW_TRY(output.file_, open_for_writing(path, O_TRUNC, access));
  return output;
}

Result<void> OutputFile::write(std::string_view text) {
  buffer_ += text;
  return buffer_.size() < (std::size_t{1} << 18) ? Result<void>() : flush();
}

Result<void> OutputFile::flush() {
  CW_CHECK(write_fully(file_, buffer_, name_));
  buffer_.clear();
  return {};
}

Result<TemporaryDirectory> TemporaryDirectory::create(const std::filesystem::path& parent) {
  std::error_code error;
  std::string path = ((parent.empty() ? std::filesystem::temp_directory_path(error) : parent) /
                      "collect-workloads-XXXXXX")
                         .string();
  if (error || ::mkdtemp(path.data()) == nullptr)
    return fail("unwritable", "cannot make a folder for temporary files ({}): {}", path,
                error ? error.message() : std::strerror(errno));
  ::chmod(path.c_str(), 0700);  // regardless of the umask
  return TemporaryDirectory(path);
}

TemporaryDirectory& TemporaryDirectory::operator=(TemporaryDirectory&& other) noexcept {
  path_.swap(other.path_);
  return *this;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

Result<Duplication> duplicate_file(const std::filesystem::path& from,
                                   const std::filesystem::path& to) {
  CW_TRY(const FileDescriptor source, open_for_reading(AT_FDCWD, from.string()));
  auto opened = open_for_writing(to, O_EXCL);
  if (!opened && opened.error().code == "exists") return Duplication::exists;
  if (!opened) return tl::unexpected(opened.error());

  // A clone, else a hard link.
  if (::ioctl(opened->get(), FICLONE, source.get()) == 0) return Duplication::linked;
  ::unlink(to.c_str());
  const std::string real = "/proc/self/fd/" + std::to_string(source.get());
  if (::linkat(AT_FDCWD, real.c_str(), AT_FDCWD, to.c_str(), AT_SYMLINK_FOLLOW) == 0)
    return Duplication::linked;

  // Else a copy.
  CW_TRY(std::uint64_t left, file_size(source, from.string()));
  CW_TRY(const FileDescriptor target, open_for_writing(to, O_EXCL));
  std::string buffer;
  for (std::uint64_t position = 0; left > 0;) {
    buffer.resize(static_cast<std::size_t>(std::min<std::uint64_t>(left, std::uint64_t{1} << 20)));
    CW_CHECK(read_exactly(source, position, buffer.size(), buffer.data(), from.string()));
    CW_CHECK(write_fully(target, buffer, to.string()));
    position += buffer.size();
    left -= buffer.size();
  }
  return Duplication::copied;
}

}  // namespace cw
