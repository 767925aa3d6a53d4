// Captures of either kind by where they lie: folders of level-10 dumps, recordings and folders of
// them.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "capture/capture.h"

namespace cw {

enum class CaptureKind { level10, recording };

/// What lies there; level10 where nothing tells.
CaptureKind kind_of(const std::filesystem::path& path);

/// Error codes: "mixed_captures", and those of DumpCapture::open and RecordingCapture::open.
Result<std::unique_ptr<Capture>> open_capture(const std::vector<std::filesystem::path>& roots);

/// A capture that an engine is still making.
class LiveCapture {
 public:
  virtual ~LiveCapture() = default;
  virtual const Capture& capture() const = 0;
  /// Takes what has been completed since the last time, until `deadline`. Whether that was all.
  virtual Result<bool> poll(Deadline deadline) = 0;
  /// The writers have ended: takes all that is left.
  virtual Result<void> finish() = 0;
  /// Calls that have begun and are not complete.
  virtual std::size_t pending() const { return 0; }
  /// From now on nothing is deleted.
  virtual void keep_the_rest() {}
  /// Bytes on the disk, as far as poll() has come: kept up, not counted anew.
  virtual std::uint64_t disk() const = 0;
};

/// Follows the capture of a folder that is there. `deletes`: level-10 dumps are deleted when they
/// were dealt with; recordings stay. Error codes: "not_found", "unreadable".
Result<std::unique_ptr<LiveCapture>> follow_capture(const std::filesystem::path& folder,
                                                    CaptureKind kind, bool deletes);

}  // namespace cw
