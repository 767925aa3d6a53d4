// Many datasets into one: shards of a collection, several models, several hosts.
//
// What is the same workload is decided by content, never by id. Of those that are, the one with the
// least id stays, and the sections of collection.json, which say how often each was seen, are
// joined. The result depends on what was merged only: not on the order, nor on what was merged
// before with what. (Selection is the exception that cannot be helped: what it drops is gone. So it
// is off unless asked for, and belongs into the last merge.)
//
// Memory does not grow with the number of workloads: everything that is sorted is sorted through
// files (base/external_sort.h). Only a selection keeps the axes of one definition's workloads, some
// 200 bytes each.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "dataset/dataset.h"

namespace cw {

struct MergeOptions {
  /// At most so many workloads a definition, as select_diverse() chooses; 0: all.
  std::size_t num_samples = 0;
  bool is_dry_run = false;  ///< compares, and writes nothing
  std::function<void(std::size_t workloads)> progress = [](std::size_t) {};
};

struct MergedDefinition {
  std::string name;
  std::size_t given = 0;     ///< workloads in all datasets
  std::size_t distinct = 0;  ///< by content
  std::size_t kept = 0;
};

struct MergeOutcome {
  std::vector<MergedDefinition> definitions;  ///< those with workloads, by name
  std::size_t captures = 0;                   ///< sections of collection.json
  std::size_t simulated = 0;                  ///< of these: by an engine without a model
  std::size_t linked = 0, copied = 0;         ///< blobs: without copying bytes, and with
  std::uint64_t bytes = 0;                    ///< of all blobs
  /// Of definitions' references, in words: which file is kept.
  std::vector<std::string> differences;
};

/// Merges `inputs` into the new folder `output`, which appears whole or not at all; it must not
/// exist, or be empty. Blobs are cloned or hard-linked where the file system can, else copied; the
/// inputs stay as they are. Error codes: "conflict" (the message names every kind: one id with
/// several contents, one definition with several meanings, one blob path with several contents),
/// "exists", "locked", and those of reading and writing.
Result<MergeOutcome> merge(const std::vector<std::filesystem::path>& inputs,
                           const std::filesystem::path& output, const MergeOptions& options);

}  // namespace cw
