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

/// Gives closed standard streams (0 to 2) something harmless to be, which children do not get: else
/// the next file that is opened is printed into.
void keep_standard_streams();

/// Opens a regular file for reading; a FIFO, a device or a socket of that name is "unreadable", and
/// nothing waits for it. `path` is relative to `directory` unless that is AT_FDCWD. Error codes:
/// "not_found", "unreadable".
Result<FileDescriptor> open_for_reading(int directory, const std::string& path);
/// The same, to be written to as well.
Result<FileDescriptor> open_for_change(int directory, const std::string& path);
Result<FileDescriptor> open_directory(const std::filesystem::path& path);

/// Size in bytes of an open file.
Result<std::uint64_t> file_size(const FileDescriptor& file, std::string_view name);

/// What is read at once of a file that may be of any size.
inline constexpr std::size_t block_size = 1 << 20;

/// Reads exactly `size` bytes at `offset` into `out`; "truncated" when the file ends before.
Result<void> read_exactly(const FileDescriptor& file, std::uint64_t offset, std::size_t size,
                          char* out, std::string_view name);

/// Writes all of `content` where the descriptor stands. Error codes: "disk_full", "unwritable".
Result<void> write_fully(const FileDescriptor& file, std::string_view content,
                         std::string_view name);

/// Reads the whole file into `buffer`, followed by at least `padding` zero bytes, and returns a
/// view of the file's part. The buffer is used again without giving its memory back. "too_large"
/// past `limit` bytes.
Result<std::string_view> read_file_into(int directory, const std::string& path, std::uint64_t limit,
                                        std::size_t padding, std::string& buffer);

/// The whole file. "too_large" past `limit` bytes.
Result<std::string> read_file(int directory, const std::string& path, std::uint64_t limit);
/// A file without a size, as /proc has them: until it ends, at most 64 KB. Nothing when it cannot
/// be read, as when the process that it tells of ends meanwhile.
std::optional<std::string> read_pseudo_file(const std::string& path);

/// Whether a file is what desktops leave in every folder, and nobody's data: "._NAME" and
/// ".DS_Store" of macOS.
bool is_litter(const std::filesystem::path& path);

/// Visits the names in a directory, in no particular order; "." and ".." left out. "unreadable" on
/// failure.
Result<void> visit_directory(
    const std::filesystem::path& path,
    const std::function<void(std::string_view name, bool is_directory)>& visit);

/// What a write must survive.
enum class Durability {
  power_failure,  ///< flushed to the disk
  process,        ///< the end of this process: much cheaper
};

/// Who may read a file that is written.
enum class Access {
  shared,  ///< as the umask says
  owner,   ///< 0600, whatever the umask is
};

/// Opens or creates a file. Empty, and errno, when that fails.
FileDescriptor open_to_write(const std::filesystem::path& path, int flags, Access access);
/// The same, for its owner alone, under any umask.
FileDescriptor open_private(const std::filesystem::path& path, int flags);

/// As many open files as the system lets us have (`ulimit -Hn`), here and in what is started
/// afterwards.
void allow_many_files();

/// Replaces or creates `path` so that it holds either what it held before or all of `content`,
/// whatever happens in between: written beside as `path` + partial_suffix and renamed; file and
/// directory are fsynced where it must survive a power failure. Error codes: "disk_full",
/// "unwritable". On an error the partial file is removed.
Result<void> write_atomically(const std::filesystem::path& path, std::string_view content,
                              Durability durability = Durability::power_failure,
                              Access access = Access::shared);

/// Files that end so are unfinished writes: readers skip them, the next writer removes them.
inline constexpr std::string_view partial_suffix = ".partial";

/// Creates a directory and its parents; no error when it is there already.
Result<void> make_directories(const std::filesystem::path& path);

/// The same, with 0700 for what is created, whatever the umask is. What is there stays as it is.
Result<void> make_private_directories(const std::filesystem::path& path);

/// The same, for a folder that is ours alone: one that is there must belong to this user, and
/// becomes 0700. Error codes: "not_private", and those of writing.
Result<void> ensure_private_directory(const std::filesystem::path& path);

/// $XDG_STATE_HOME/collect-workloads or ~/.local/state/collect-workloads, ours alone; made if it is
/// not there. Without a home that can be written into, a folder of our own among the temporary
/// files. Error code "state_unusable".
Result<std::filesystem::path> state_folder();

/// Bytes on the disk of one file; holes do not count.
std::uint64_t bytes_on_disk(const struct stat& status);

/// Bytes on the disk of all files below a directory; holes do not count. What vanishes meanwhile is
/// left out.
std::uint64_t disk_usage(const std::filesystem::path& path);

/// Flushes a directory's entries to the disk, so that a rename in it survives a power failure.
Result<void> sync_directory(const std::filesystem::path& path);

}  // namespace cw
