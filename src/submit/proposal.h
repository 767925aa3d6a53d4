// The content of a pull request: the workloads that the remote lacks, as files, with title and
// description.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "dataset/comparison.h"
#include "report/summary.h"
#include "submit/hub.h"

namespace cw {

struct Proposal {
  std::vector<DefinitionComparison> definitions;  ///< all that were compared
  std::vector<UploadFile> files;  ///< blobs, then definitions missing there, then workloads
                                  ///< files: in this order no line ever names a missing file
  std::size_t added = 0, known = 0, undecided = 0;
  std::string fingerprint;  ///< of what is new: equal for the same workloads
};

/// Remote files that a comparison needs, relative to the root.
std::vector<std::string> compared_files(const Dataset& dataset);

/// Checks, given all remote paths, that all definitions and workloads of these names are where they
/// belong: others would not be compared. Error code "conflict".
Result<void> check_places(const Dataset& dataset, const std::vector<std::string>& there);

/// `mirror` holds compared_files() as far as the remote has them. Lines are added to the remote's
/// file, not to ours. `among`: only what that proposal has too; may be null. Error codes:
/// "conflict" (a definition means something else there), and those of compare() and of reading.
Result<Proposal> propose(const Dataset& dataset, const std::filesystem::path& mirror,
                         const FetchBlobs& fetch, const Proposal* among);

/// Writes the files to a folder laid out as in the repository, cloning or linking blobs if
/// possible.
Result<void> write_files(const Proposal& proposal, const std::filesystem::path& folder);

/// What was checked, for the checklist: a box is ticked by a check that ran and found nothing.
struct Checks {
  std::size_t validated_workloads = 0, validated_blobs = 0, warnings = 0;
  bool is_valid = false;
  bool is_simulated = false;           ///< our own engine made some of them
  std::vector<std::string> simulated;  ///< definitions with workloads that it made
  bool has_provenance = false;         ///< collection.json names the engine of every capture
  std::size_t loaded = 0, executed = 0, with_reference = 0;  ///< of the new definitions' workloads
  std::size_t to_load = 0;
  std::vector<std::string> unverified;  ///< definitions not verified in their current state
};

/// The checks of the definitions with something new.
Checks checks_of(const Summary& summary);

std::string title_of(const Proposal& proposal, const Summary& summary);
/// `base`: what it was compared with.
std::string description_of(const Proposal& proposal, const Summary& summary, const Checks& checks,
                           std::string_view base);

}  // namespace cw
