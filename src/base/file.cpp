#include "base/file.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cw {
namespace {

tl::unexpected<Error> fail_errno(std::string_view what, std::string_view path, int error) {
  const bool full = error == ENOSPC || error == EDQUOT;
  const bool writing = what == "write";
  std::string code = full              ? "disk_full"
                     : error == ENOENT ? "not_found"
                     : writing         ? "unwritable"
                                       : "unreadable";
  return fail(std::move(code), "cannot {} {}: {}", what, path, std::strerror(error));
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

void keep_standard_streams() {
  for (int stream = 0; stream <= 2; ++stream)
    if (::fcntl(stream, F_GETFD) < 0 && ::open("/dev/null", O_RDWR | O_CLOEXEC) < 0)
      return;  // open() takes the lowest free number: this one
}

namespace {

Result<SizedFile> open_regular(int directory, const std::string& path, int mode) {
  // O_NONBLOCK: a FIFO must not hang the run; regular files ignore it.
  FileDescriptor file(::openat(directory, path.c_str(), mode | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) return fail_errno("read", path, errno);
  struct stat status;
  if (::fstat(file.get(), &status) != 0) return fail_errno("read", path, errno);
  if (!S_ISREG(status.st_mode)) return fail("unreadable", "{} is not a regular file", path);
  return SizedFile{std::move(file), static_cast<std::uint64_t>(status.st_size)};
}

}  // namespace

Result<SizedFile> open_with_size(int directory, const std::string& path) {
  return open_regular(directory, path, O_RDONLY);
}

Result<FileDescriptor> open_for_reading(int directory, const std::string& path) {
  CW_TRY(SizedFile file, open_with_size(directory, path));
  return std::move(file.descriptor);
}

Result<FileDescriptor> open_for_change(int directory, const std::string& path) {
  CW_TRY(SizedFile file, open_regular(directory, path, O_RDWR));
  return std::move(file.descriptor);
}

Result<FileDescriptor> open_directory(const std::filesystem::path& path) {
  FileDescriptor directory(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY));
  if (!directory) return fail_errno("read", path.string(), errno);
  return directory;
}

Result<std::uint64_t> file_size(const FileDescriptor& file, std::string_view name) {
  struct stat status;
  if (::fstat(file.get(), &status) != 0) return fail_errno("read", name, errno);
  return static_cast<std::uint64_t>(status.st_size);
}

Result<void> read_exactly(const FileDescriptor& file, std::uint64_t offset, std::size_t size,
                          char* out, std::string_view name) {
  while (size > 0) {
    const ssize_t got = ::pread(file.get(), out, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read", name, errno);
    if (got == 0) return fail("truncated", "{} ends {} bytes too early", name, size);
    out += got;
    offset += static_cast<std::uint64_t>(got);
    size -= static_cast<std::size_t>(got);
  }
  return {};
}

Result<void> write_fully(const FileDescriptor& file, std::string_view content,
                         std::string_view name) {
  while (!content.empty()) {
    const ssize_t written = ::write(file.get(), content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno("write", name, errno);
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

Result<std::string_view> read_file_into(int directory, const std::string& path, std::uint64_t limit,
                                        std::size_t padding, std::string& buffer) {
  CW_TRY(const SizedFile opened, open_with_size(directory, path));
  const auto& [file, size] = opened;
  if (size > limit)
    return fail("too_large", "{} has {} bytes; at most {} are read of such a file", path, size,
                limit);
  if (buffer.size() < size + padding) buffer.resize(size + padding);
  CW_CHECK(read_exactly(file, 0, size, buffer.data(), path));
  std::memset(buffer.data() + size, 0, padding);
  return std::string_view(buffer).substr(0, size);
}

std::optional<std::string> read_pseudo_file(const std::string& path) {
  constexpr std::size_t max_size = 64 << 10;
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return {};
  std::string content;
  while (content.size() < max_size) {
    char block[4096];
    const ssize_t count = ::read(file.get(), block, sizeof block);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return {};
    if (count == 0) break;
    content.append(block, static_cast<std::size_t>(count));
  }
  return content;
}

Result<std::string> read_file(int directory, const std::string& path, std::uint64_t limit) {
  std::string content;
  CW_TRY(const std::string_view view, read_file_into(directory, path, limit, 0, content));
  content.resize(view.size());
  return content;
}

bool is_litter(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  return name.starts_with("._") || name == ".DS_Store";
}

Result<void> visit_directory(const std::filesystem::path& path,
                             const std::function<void(std::string_view, bool)>& visit) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
  if (!directory) return fail_errno("read", path.string(), errno);
  for (errno = 0; const dirent* entry = ::readdir(directory.get()); errno = 0) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    bool is_directory = entry->d_type == DT_DIR;
    if (entry->d_type == DT_UNKNOWN || entry->d_type == DT_LNK) {
      std::error_code ignored;
      is_directory = std::filesystem::is_directory(path / name, ignored);
    }
    visit(name, is_directory);
  }
  if (errno != 0) return fail_errno("read", path.string(), errno);
  return {};
}

Result<void> make_directories(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return fail_errno("write", path.string(), error.value());
  return {};
}

Result<void> make_private_directories(const std::filesystem::path& path) {
  std::vector<std::filesystem::path> missing;
  for (std::filesystem::path folder = path; !folder.empty() && ::access(folder.c_str(), F_OK) != 0;
       folder = folder.parent_path()) {
    missing.push_back(folder);
    if (folder == folder.parent_path()) break;
  }
  for (; !missing.empty(); missing.pop_back()) {
    const std::filesystem::path& folder = missing.back();
    if (::mkdir(folder.c_str(), 0700) == 0) {
      ::chmod(folder.c_str(), 0700);
    } else if (errno != EEXIST) {
      return fail_errno("write", folder.string(), errno);
    }
  }
  std::error_code error;
  if (!std::filesystem::is_directory(path, error))
    return fail_errno("write", path.string(), ENOTDIR);
  return {};
}

Result<void> ensure_private_directory(const std::filesystem::path& path) {
  CW_CHECK(make_private_directories(path));
  struct stat named, status;
  if (::lstat(path.c_str(), &named) != 0 || ::stat(path.c_str(), &status) != 0)
    return fail_errno("write", path.string(), errno);
  if (named.st_uid != ::geteuid() || status.st_uid != ::geteuid())
    return fail("not_private", "{} belongs to another user and is not used", path.string());
  if ((status.st_mode & 077) != 0 && ::chmod(path.c_str(), 0700) != 0)
    return fail_errno("write", path.string(), errno);
  return {};
}

std::uint64_t bytes_on_disk(const struct stat& status) {
  constexpr std::uint64_t block = 512;  // unit of st_blocks, whatever the file system's block size
  return static_cast<std::uint64_t>(status.st_blocks) * block;
}

std::uint64_t disk_usage(const std::filesystem::path& path) {
  std::uint64_t total = 0;
  const auto visited = visit_directory(path, [&](std::string_view name, bool is_directory) {
    const std::filesystem::path entry = path / name;
    struct stat status;
    if (::lstat(entry.c_str(), &status) != 0) return;
    total += bytes_on_disk(status);
    if (is_directory && S_ISDIR(status.st_mode)) total += disk_usage(entry);
  });
  return visited ? total : 0;
}

Result<void> sync_directory(const std::filesystem::path& path) {
  CW_TRY(const FileDescriptor directory, open_directory(path));
  if (::fsync(directory.get()) != 0) return fail_errno("write", path.string(), errno);
  return {};
}

void allow_many_files() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0 &&
      std::exchange(files.rlim_cur, files.rlim_max) < files.rlim_max)
    ::setrlimit(RLIMIT_NOFILE, &files);
}

FileDescriptor open_to_write(const std::filesystem::path& path, int flags, Access access) {
  const mode_t mode = access == Access::owner ? 0600 : 0644;
  FileDescriptor file(::open(path.c_str(), flags | O_CREAT | O_CLOEXEC, mode));
  if (file && access == Access::owner) ::fchmod(file.get(), mode);
  return file;
}

FileDescriptor open_private(const std::filesystem::path& path, int flags) {
  return open_to_write(path, flags, Access::owner);
}

Result<void> write_atomically(const std::filesystem::path& path, std::string_view content,
                              Durability durability, Access access) {
  const std::string partial = path.string() + std::string(partial_suffix);
  ::unlink(partial.c_str());  // left by a killed writer; it may be a link: never write through it
  FileDescriptor file = open_to_write(partial, O_WRONLY | O_EXCL, access);
  if (!file) return fail_errno("write", partial, errno);
  auto written = write_fully(file, content, path.string());
  if (written && durability == Durability::power_failure && ::fsync(file.get()) != 0)
    written = fail_errno("write", path.string(), errno);
  if (written && ::rename(partial.c_str(), path.c_str()) != 0)
    written = fail_errno("write", path.string(), errno);
  if (!written) {
    ::unlink(partial.c_str());
    return written;
  }
  if (durability == Durability::process) return {};
  return sync_directory(path.has_parent_path() ? path.parent_path() : ".");
}

Result<std::filesystem::path> state_folder() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");

  // A relative path must be ignored (XDG Base Directory Specification).
  const bool is_chosen = state != nullptr && *state == '/';
  std::filesystem::path folder = is_chosen ? std::filesystem::path(state)
                                 : home != nullptr && *home != '\0'
                                     ? std::filesystem::path(home) / ".local/state"
                                     : std::filesystem::path();
  if (!folder.empty()) {
    const auto made = ensure_private_directory(folder / "collect-workloads");
    if (made) return folder / "collect-workloads";
    if (is_chosen) return fail("state_unusable", "{}", made.error().message);
  }

  // Without a writable home, use the shared folder (TMPDIR), with the user's name in ours.
  std::error_code error;
  folder = std::filesystem::temp_directory_path(error) /
           fmt::format("collect-workloads-{}", ::geteuid());
  if (const auto made = ensure_private_directory(folder); !made)
    return fail("state_unusable", "{}", made.error().message);
  return folder;
}

}  // namespace cw
