// New files that are not published by a rename of their own, but with the folder they are in.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/file.h"

namespace cw {

/// A file written piece by piece, buffered.
class OutputFile {
 public:
  /// Creates its folder too; truncates an existing file. Error codes: those of writing.
  static Result<OutputFile> create(const std::filesystem::path& path,
                                   Access access = Access::shared);
  Result<void> write(std::string_view text);
  /// Must be called after the last piece; what is not flushed is lost.
  Result<void> flush();

 private:
  std::string name_;
  FileDescriptor file_;
  std::string buffer_;
};

/// A new temporary folder; removed with everything in it when it goes out of scope.
class TemporaryDirectory {
 public:
  /// In `parent`, or in the system's temporary folder if that is empty. Error code "unwritable".
  static Result<TemporaryDirectory> create(const std::filesystem::path& parent = {});
  TemporaryDirectory(TemporaryDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryDirectory& operator=(TemporaryDirectory&& other) noexcept;
  ~TemporaryDirectory();
  const std::filesystem::path& path() const { return path_; }
  /// Leaves it where it is.
  void keep() { path_.clear(); }

 private:
  explicit TemporaryDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

enum class Duplication {
  linked,  ///< the bytes are shared
  copied,
  exists,  ///< nothing was done: the new name exists
};

/// Gives a file a second name: as a clone (FICLONE) or a hard link where the file system supports
/// that, else as a copy.
Result<Duplication> duplicate_file(const std::filesystem::path& from,
                                   const std::filesystem::path& to);

}  // namespace cw
