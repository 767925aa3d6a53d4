// What a collection has found so far, in a folder of its own, so that another process can resume
// after this one was interrupted or killed: dumps are deleted once processed, so this is the only
// trace of them.
//
//   state.json         counts; the key, axes and frequency of each distinct workload; and the
//                      workloads themselves, as lines of a dataset hold them
//   blob/workloads/…   their tensors, as a dataset has them
//
// Blobs appear before the state that names them, and the state appears atomically, so a reader
// always finds the last complete checkpoint. It survives kill -9, but not a power failure.
#pragma once

#include <filesystem>
#include <map>
#include <set>

#include "base/json.h"
#include "sanitize/retained_workloads.h"
#include "sanitize/survey.h"

namespace cw {

class Checkpoint {
 public:
  explicit Checkpoint(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// Replaces the folder's content. `more` is the caller's own part. Error codes: those of writing.
  Result<void> save(const Capture& capture, const Binder& binder, const Survey& survey,
                    const RetainedWorkloads& retained, const Json& more);

  /// Restores what was passed to the last save(). Skips definitions that `binder` does not have,
  /// and workloads whose blobs cannot be read or have other content. Error codes: "not_found",
  /// "checkpoint_malformed".
  Result<Json> load(const Binder& binder, Survey& survey, RetainedWorkloads& retained);

  /// Replaces the caller's own part. Error codes: those of load() and of writing.
  Result<void> mark(const Json& more);
  /// It will not be load()ed any more: only the caller's own part is kept. Error codes: those of
  /// writing.
  Result<void> conclude(const Json& more);

  /// Only the caller's own part; null if there is no checkpoint.
  static Json more_of(const std::filesystem::path& folder);

 private:
  using Key = std::pair<const Target*, Hash128>;
  Result<Json> stored_line(const Target* target, const Hash128& key, const Workload& workload);

  std::filesystem::path folder_;
  std::map<Key, std::pair<Json, std::string>> stored_;  ///< line and blob of what is on disk
};

}  // namespace cw
