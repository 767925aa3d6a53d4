// What a dataset has that another one lacks.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "dataset/dataset.h"

namespace cw {

/// A definition as the other dataset has it.
enum class DefinitionState { missing, same, differs };

struct DefinitionComparison {
  std::string name, op_type;
  DefinitionState state = DefinitionState::missing;
  /// Ids of workloads that the other dataset lacks, in the file's order.
  std::vector<std::string> added;
  std::size_t known = 0;   ///< workloads that it has, perhaps under other ids
  std::size_t others = 0;  ///< workloads that it has of this definition, ours or not
  /// Of `added`: its blob could not be read, so it may be there under another id.
  std::size_t undecided = 0;
};

/// Told the blobs of the other dataset that are about to be read, relative to its root, so that
/// they can be fetched.
using FetchBlobs = std::function<Result<void>(const std::vector<std::string>& paths)>;

/// Compares those definitions of `dataset` that have workloads. Equal ids are equal workloads; the
/// rest is decided by content, for which blobs are read of those only whose axes are equal. Error
/// codes: "conflict" (one id with other axes or inputs there), those of reading, of `fetch`.
Result<std::vector<DefinitionComparison>> compare(
    const Dataset& dataset, const std::filesystem::path& other,
    const FetchBlobs& fetch = [](const auto&) -> Result<void> { return {}; });

}  // namespace cw
