// What a collection has found so far, in a folder of its own, so that another process can go on
// after this one was interrupted or killed: dumps are deleted once processed, so nothing else
// remembers them.
//
//   state.json         counts; the key, axes and frequency of each distinct workload; and the
//                      workloads themselves, as lines of a dataset hold them
//   blob/workloads/…   their tensors, as a dataset has them
//
// Blobs appear before the state that names them, and the state appears at once, so a reader always
// finds the last complete checkpoint. It survives kill -9, but not a power failure.
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

  /// Replaces what the folder holds. `more` is the caller's own. Error codes: those of writing.
  Result<void> save(const Capture& capture, const Binder& binder, const Survey& survey,
                    const RetainedWorkloads& retained, const Json& more);

  /// What the last save() was given. Definitions that `binder` does not have are left out, and
  /// workloads whose blobs cannot be read or hold something else. Error codes: "not_found",
  /// "checkpoint_malformed".
  Result<Json> load(const Binder& binder, Survey& survey, RetainedWorkloads& retained);

  /// Replaces the caller's own part. Error codes: those of load() and of writing.
  Result<void> mark(const Json& more);
  /// Nobody is going to load() it: only the caller's own part stays. Error codes: those of writing.
  Result<void> conclude(const Json& more);

  /// Only the caller's own part; null when there is no checkpoint.
  static Json more_of(const std::filesystem::path& folder);

 private:
  using Key = std::pair<const Target*, Hash128>;
  Result<Json> stored_line(const Target* target, const Hash128& key, const Workload& workload);

  std::filesystem::path folder_;
  std::map<Key, std::pair<Json, std::string>> stored_;  ///< line and blob of what is on the disk
};

}  // namespace cw
