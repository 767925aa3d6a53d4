// File descriptors in somebody else's process.
//
// The threads of a process share one descriptor table, and the engine may close any descriptor in
// it at any time: daemons and workers close all of them. A number that was ours is then reused for
// the next file, database or socket that the engine opens, and any check before a write is racy.
// So the recorder's own threads leave that table: what they open lives in a private table, where
// nobody else can close it and no number refers to anything of the engine's (close_range(2),
// unshare(2)).
#pragma once

#include <cstdint>
#include <string_view>

namespace cw::recorder {

/// Gives the calling thread, and the threads it starts from now on, a descriptor table of their
/// own with copies of the descriptors below `first` only. Returns false and does nothing if the
/// kernel does not support that.
bool leave_shared_descriptors(unsigned first) noexcept;
/// Whether that works, tried in a thread that exits at once.
bool can_leave_shared_descriptors();

/// Which file a descriptor refers to.
struct FileIdentity {
  std::uint64_t device = 0, inode = 0;
  bool operator==(const FileIdentity&) const = default;
};

/// Writes a line to stderr (descriptor 2) if that still refers to `expected`: an engine may have
/// put something else there. Writes nothing if this cannot be determined.
void write_to_stderr(std::string_view line, const FileIdentity& expected) noexcept;

}  // namespace cw::recorder
