// Merges datasets into one: shards of a collection, several models, several hosts.
//
// Whether workloads are the same is decided by content, never by id. Of equal ones, the one with
// the smallest id stays, and the sections of collection.json, which say how often each was seen,
// are joined. The result depends only on what was merged, not on the order or grouping of merges.
// (Selection is the unavoidable exception: what it drops is gone. So it is off by default, and
// belongs in the last merge.)
//
// Memory does not grow with the number of workloads: all sorting is external
// (base/external_sort.h). Only a selection keeps the axes of one definition's workloads, about
// 200 bytes each.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "dataset/dataset.h"

namespace cw {

struct MergeOptions {
  /// Maximum workloads per definition, chosen by select_diverse(); 0: all.
  std::size_t num_samples = 0;
  bool is_dry_run = false;  ///< compares only; writes nothing
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
  std::size_t simulated = 0;                  ///< of these: made by an engine without a model
  std::size_t linked = 0, copied = 0;         ///< blobs: without copying bytes, and with
  std::uint64_t bytes = 0;                    ///< of all blobs
  /// Differences in definitions' references, in words: which file is kept.
  std::vector<std::string> differences;
};

/// Merges `inputs` into the new folder `output`, which appears atomically; it must not exist, or be
/// empty. Blobs are cloned or hard-linked where the file system supports it, else copied; the
/// inputs are not changed. Error codes: "conflict" (the message names every kind: one id with
/// several contents, one definition with several meanings, one blob path with several contents),
/// "exists", "locked", and those of reading and writing.
Result<MergeOutcome> merge(const std::vector<std::filesystem::path>& inputs,
                           const std::filesystem::path& output, const MergeOptions& options);

}  // namespace cw
