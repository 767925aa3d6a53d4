// The work folder of a collection: what was requested, its progress, its logs and dumps.
// While it is held nobody else works in it, and a run that was interrupted or killed is resumed
// from it.
//
//   collect.json   the command line, where it was given, and, once all is done, how each run ended
//   lock           held as long as the collection runs
//   runN/          of each engine run: engine.log, client.log, dumps/, and found/, its checkpoint
//
// Secrets are not stored: a word that had one says so, and must be given again to resume.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"

namespace cw {

/// How far a run had come when its checkpoint was written.
struct RunPosition {
  std::size_t requests = 0;    ///< completed requests of the schedules
  std::size_t sent_twice = 0;  ///< in flight when an earlier part ended, and sent again
  bool is_collected = false;   ///< only the dataset remains to be written
  bool is_published = false;   ///< the dataset has what was found

  bool is_complete() const { return is_collected && is_published; }
  Json to_json() const;
  /// From a checkpoint's folder; nothing if there is none.
  static std::optional<RunPosition> read(const std::filesystem::path& checkpoint);
};

/// The command that resumes the collection in a work folder.
std::string resume_command(const std::filesystem::path& work_dir);

/// Whether one of the runs in a work folder has a checkpoint that is not complete.
bool has_unfinished_run(const std::filesystem::path& work_dir);

/// The command line of the collection in `work_dir` (empty: the last one that was not finished),
/// which becomes absolute; its working directory becomes ours. `given` are the words that are added
/// to it. Error codes: "nothing_to_resume", "secret_needed".
Result<std::vector<std::string>> resumed_words(std::filesystem::path& work_dir,
                                               const std::vector<std::string>& given);

class WorkDir {
 public:
  WorkDir(std::filesystem::path path, std::size_t runs) : path_(std::move(path)), runs_(runs) {}

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path run(std::size_t index) const;
  std::filesystem::path checkpoint(std::size_t index) const { return run(index) / "found"; }
  std::optional<RunPosition> position(std::size_t index) const {
    return RunPosition::read(checkpoint(index));
  }
  /// Whether the collection in it was completed.
  bool is_finished() const;

  /// Locks the folder for this process and saves the command line. What an earlier collection found
  /// but did not publish is not discarded; Start::resumed continues from it. Error codes:
  /// "work_dir_used", "unwritable".
  enum class Start { fresh, resumed };
  Result<void> take(const std::vector<std::string>& words, Start start);
  /// Once every run is complete, removes everything but the logs and the record of what was run.
  void finish();

 private:
  std::filesystem::path path_;
  std::size_t runs_;
  FileDescriptor lock_;
};

}  // namespace cw
