// Adding workloads to a dataset so that it is valid at every moment, also after kill -9.
//
// A workload is a blob and a line; no single rename puts both in place. So a journal is written
// first, .collect-workloads.journal in the dataset's root, which names every blob that will be
// added. Then blobs appear, then each definition's lines at once. Whoever finds a journal (the next
// writer, under the same lock) removes the blobs in it that no line names, and the journal: the
// dataset is as if the interrupted definition had never been begun. Readers take the blobs of a
// journal for unfinished work.
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
  /// Without a newline; empty when the line is there and only its blob is missing.
  std::string line;
  std::string blob;  ///< path relative to the root; empty when it has none
  std::function<Result<std::string>()> content;  ///< the blob's bytes; called once, from any thread
};

struct NewWorkloads {
  const Definition* definition;
  std::vector<NewWorkload> workloads;  ///< appended to the file in this order
};

class Publication {
 public:
  /// Locks the dataset, for which it waits as long as another writer may take, and takes back what
  /// an interrupted writer left. Error codes: "locked", and those of writing.
  static Result<Publication> begin(const std::filesystem::path& root,
                                   std::chrono::milliseconds patience = std::chrono::seconds(10));

  /// Whether begin() and publish() could write there now, as far as permissions tell. Error codes:
  /// "not_found", "unwritable".
  static Result<void> check(const std::filesystem::path& root);

  /// Writes all. On an error the definition it happened in and those after it are as they were.
  Result<void> publish(const std::vector<NewWorkloads>& additions);

  /// Replaces a file of the dataset, relative to its root.
  Result<void> write(const std::filesystem::path& path, std::string_view content);

  /// How many unfinished blobs begin() took back.
  std::size_t recovered() const { return recovered_; }

 private:
  Result<void> recover();
  Result<void> publish_one(const NewWorkloads& addition);

  std::filesystem::path root_;
  FileDescriptor lock_;
  std::size_t recovered_ = 0;
};

/// Blobs that a writer has begun to add, relative to the root; empty when there is no journal.
std::set<std::string> unfinished_blobs(const std::filesystem::path& root);

}  // namespace cw
