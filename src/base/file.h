// Files: owned descriptors, bounded reads, atomic writes, directory listings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

struct stat;

namespace cw {

/// An owned POSIX file descriptor; closed when it goes out of scope.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// Opens something harmless on closed standard streams (0 to 2), not inherited by children:
/// otherwise output would end up in the next file opened.
void keep_standard_streams();

/// Opens a regular file for reading; a FIFO, device or socket of that name is "unreadable" and
/// never blocks. `path` is relative to `directory` unless that is AT_FDCWD. Error codes:
/// "not_found", "unreadable".
Result<FileDescriptor> open_for_reading(int directory, const std::string& path);
/// The same, for reading and writing.
Result<FileDescriptor> open_for_change(int directory, const std::string& path);

/// A regular file open for reading, and its size in bytes when it was opened.
struct SizedFile {
  FileDescriptor descriptor;
  std::uint64_t size = 0;
};
/// The same as open_for_reading(), with one system call less for who needs the size too.
Result<SizedFile> open_with_size(int directory, const std::string& path);

Result<FileDescriptor> open_directory(const std::filesystem::path& path);

/// Size in bytes of an open file.
Result<std::uint64_t> file_size(const FileDescriptor& file, std::string_view name);

/// How much is read at once of a file of arbitrary size.
inline constexpr std::size_t block_size = 1 << 20;

/// Reads exactly `size` bytes at `offset` into `out`; "truncated" if the file ends before that.
Result<void> read_exactly(const FileDescriptor& file, std::uint64_t offset, std::size_t size,
                          char* out, std::string_view name);

/// Writes all of `content` at the descriptor's current offset. Error codes: "disk_full",
/// "unwritable".
Result<void> write_fully(const FileDescriptor& file, std::string_view content,
                         std::string_view name);

/// Reads the whole file into `buffer`, followed by at least `padding` zero bytes, and returns a
/// view of the file's part. The buffer is reused without releasing its memory. "too_large" past
/// `limit` bytes.
Result<std::string_view> read_file_into(int directory, const std::string& path, std::uint64_t limit,
                                        std::size_t padding, std::string& buffer);

/// The whole file. "too_large" past `limit` bytes.
Result<std::string> read_file(int directory, const std::string& path, std::uint64_t limit);
/// A file without a size, such as those in /proc, up to its end or 64 KB. Nothing if it cannot be
/// read, for example because the process it describes exits meanwhile.
std::optional<std::string> read_pseudo_file(const std::string& path);

/// Whether a file is clutter that desktops leave in every folder rather than data: "._NAME" and
/// ".DS_Store" from macOS.
bool is_litter(const std::filesystem::path& path);

/// Visits the names in a directory, in no particular order; "." and ".." left out. "unreadable" on
/// failure.
Result<void> visit_directory(
    const std::filesystem::path& path,
    const std::function<void(std::string_view name, bool is_directory)>& visit);

/// What a write must survive.
enum class Durability {
  power_failure,  ///< flushed to the disk
  process,        ///< this process's death: much cheaper
};

/// Who may read a file that we write.
enum class Access {
  shared,  ///< as the umask says
  owner,   ///< 0600, whatever the umask is
};

/// Opens or creates a file. On failure, empty with errno set.
FileDescriptor open_to_write(const std::filesystem::path& path, int flags, Access access);
/// The same, readable by its owner only, whatever the umask.
FileDescriptor open_private(const std::filesystem::path& path, int flags);

/// Raises the limit on open files to the hard limit (`ulimit -Hn`), for this process and those it
/// starts afterwards.
void allow_many_files();

/// Replaces or creates `path` so that it holds either what it held before or all of `content`,
/// whatever happens in between: written to `path` + partial_suffix and renamed; file and directory
/// are fsynced if it must survive a power failure. Error codes: "disk_full", "unwritable". On error
/// the partial file is removed.
Result<void> write_atomically(const std::filesystem::path& path, std::string_view content,
                              Durability durability = Durability::power_failure,
                              Access access = Access::shared);

/// Files with this suffix are unfinished writes: readers skip them, the next writer removes them.
inline constexpr std::string_view partial_suffix = ".partial";

/// Creates a directory and its parents; no error if it exists already.
Result<void> make_directories(const std::filesystem::path& path);

/// The same, with mode 0700 for what is created, whatever the umask. Existing ones are not changed.
Result<void> make_private_directories(const std::filesystem::path& path);

/// The same, for a private folder: an existing one must belong to this user, and its mode becomes
/// 0700. Error codes: "not_private", and those of writing.
Result<void> ensure_private_directory(const std::filesystem::path& path);

/// $XDG_STATE_HOME/collect-workloads or ~/.local/state/collect-workloads, private; created if
/// missing. Without a writable home, a private folder among the temporary files. Error code
/// "state_unusable".
Result<std::filesystem::path> state_folder();

/// Disk usage of one file in bytes; holes do not count.
std::uint64_t bytes_on_disk(const struct stat& status);

/// Disk usage of all files below a directory in bytes; holes do not count. Files that vanish
/// meanwhile are ignored.
std::uint64_t disk_usage(const std::filesystem::path& path);

/// Flushes a directory's entries to the disk, so that a rename in it survives a power failure.
Result<void> sync_directory(const std::filesystem::path& path);

}  // namespace cw
