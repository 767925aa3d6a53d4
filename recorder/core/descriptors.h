// File descriptors in somebody else's process.
//
// The threads of a process share one table of descriptors, and the engine may close any number in
// it at any time: daemons and workers close all of them. A number that was ours is then given to
// the next file, database or socket that the engine opens, and no check before a write is early
// enough. So the recorder's own threads leave that table: what they open is in a table that nobody
// else has, where nobody closes it and no number means anything of the engine's (close_range(2),
// unshare(2)).
#pragma once

#include <cstdint>
#include <string_view>

namespace cw::recorder {

/// Gives the calling thread, and those that it starts from now on, a table of descriptors of its
/// own, without those from `first` on; the others are its own copies. False, and nothing happens,
/// where the kernel does not do that.
bool leave_shared_descriptors(unsigned first) noexcept;
/// The same, tried in a thread that ends at once.
bool can_leave_shared_descriptors();

/// Which file a descriptor is open on.
struct FileIdentity {
  std::uint64_t device = 0, inode = 0;
  bool operator==(const FileIdentity&) const = default;
};

/// Writes a line to stderr (descriptor 2) if that is still open on `expected`: an engine may have
/// put something else there. Nothing is written where this cannot be known.
void write_to_stderr(std::string_view line, const FileIdentity& expected) noexcept;

}  // namespace cw::recorder
