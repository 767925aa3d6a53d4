// What one dataset has that another lacks.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "dataset/dataset.h"

namespace cw {

/// A definition's state in the other dataset.
enum class DefinitionState { missing, same, differs };

struct DefinitionComparison {
  std::string name, op_type;
  DefinitionState state = DefinitionState::missing;
  /// Ids of workloads that the other dataset lacks, in the file's order.
  std::vector<std::string> added;
  std::size_t known = 0;   ///< workloads that the other has too, perhaps under other ids
  std::size_t others = 0;  ///< all workloads of this definition there, ours or not
  /// How many of `added` have an unreadable blob there, so may exist under another id.
  std::size_t undecided = 0;
};

/// Called with the other dataset's blobs that are about to be read, relative to its root, so that
/// they can be fetched.
using FetchBlobs = std::function<Result<void>(const std::vector<std::string>& paths)>;

/// Compares the definitions of `dataset` that have workloads. Equal ids mean equal workloads; the
/// rest is decided by content, reading blobs only of workloads with equal axes. Error codes:
/// "conflict" (an id with different axes or inputs there), those of reading and of `fetch`.
Result<std::vector<DefinitionComparison>> compare(
    const Dataset& dataset, const std::filesystem::path& other,
    const FetchBlobs& fetch = [](const auto&) -> Result<void> { return {}; });

}  // namespace cw
