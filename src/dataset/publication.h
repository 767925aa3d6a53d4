// Adds workloads to a dataset so that it is valid at all times, even after kill -9.
//
// A workload is a blob and a line; no single rename puts both in place. So a journal is written
// first, .collect-workloads.journal in the dataset's root, which names every blob that will be
// added. Then the blobs appear, then each definition's lines atomically. The next writer to find a
// journal, under the same lock, removes the blobs in it that no line names, and the journal: the
// dataset is as if the interrupted definition had never been started. Readers treat the blobs of a
// journal as unfinished work.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "base/file.h"
#include "dataset/dataset.h"

namespace cw {

/// A workload ready to be written: what identifies it, and how to get its bytes.
struct NewWorkload {
  /// Without a newline; empty if the line exists and only its blob is missing.
  std::string line;
  std::string blob;  ///< path relative to the root; empty if it has none
  std::function<Result<std::string>()> content;  ///< the blob's bytes; called once, from any thread
};

struct NewWorkloads {
  const Definition* definition;
  std::vector<NewWorkload> workloads;  ///< appended to the file in this order
};

class Publication {
 public:
  /// Locks the dataset, waiting up to `patience` for another writer, and rolls back what an
  /// interrupted writer left. Error codes: "locked", and those of writing.
  static Result<Publication> begin(const std::filesystem::path& root,
                                   std::chrono::milliseconds patience = std::chrono::seconds(10));

  /// Whether begin() and publish() could write there now, as far as permissions tell. Error codes:
  /// "not_found", "unwritable".
  static Result<void> check(const std::filesystem::path& root);

  /// Writes everything. On error, the failing definition and those after it are left unchanged.
  Result<void> publish(const std::vector<NewWorkloads>& additions);

  /// Replaces a file of the dataset, relative to its root.
  Result<void> write(const std::filesystem::path& path, std::string_view content);

  /// How many unfinished blobs begin() rolled back.
  std::size_t recovered() const { return recovered_; }

 private:
  Result<void> recover();
  Result<void> publish_one(const NewWorkloads& addition);

  std::filesystem::path root_;
  FileDescriptor lock_;
  std::size_t recovered_ = 0;
};

/// Blobs that a writer has started to add, relative to the root; empty if there is no journal.
std::set<std::string> unfinished_blobs(const std::filesystem::path& root);

}  // namespace cw
