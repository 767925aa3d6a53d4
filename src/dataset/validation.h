// Whether a dataset is what flashinfer-bench and its users can rely on.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "dataset/dataset.h"
#include "definition/index_checks.h"

namespace cw {

struct Finding {
  enum class Severity { error, warning };
  Severity severity;
  std::string code;
  std::string where;  ///< file, or file:line
  std::string message;
  std::size_t line = 0;  ///< 0: the whole file
};

struct ValidationReport {
  std::size_t definitions = 0, workloads = 0, blobs = 0;
  /// Ordered by location. Only a few of one kind per file, the last of which counts the rest.
  std::vector<Finding> findings;

  bool is_valid() const;
};

/// Checks definitions, workloads and blobs: schema, existence, headers, shapes and types against
/// axes, constraints, index tensors (`checks_of`), unique ids, orphan blobs, paths that
/// leave the dataset. Everything that flashinfer-bench's loader rejects is an error here. Reads
/// stored index tensors in full, and only the headers of other blobs.
Result<ValidationReport> validate(const std::filesystem::path& root,
                                  const IndexChecksOf& checks_of);

}  // namespace cw
