// What a pull request would bring: the workloads that the other side lacks, as files, and the words
// that go with them.
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
  std::vector<UploadFile> files;  ///< blobs, then definitions that are missing there, then files of
                                  ///< workloads: in this order no line ever names what is not there
  std::size_t added = 0, known = 0, undecided = 0;
  std::string fingerprint;  ///< of what is new: the same workloads give the same one
};

/// Files of the other side that a comparison needs, relative to its root.
std::vector<std::string> compared_files(const Dataset& dataset);

/// Whether all definitions and workloads of these names lie where they belong, given all paths
/// there: what lies elsewhere would not be compared. Error code "conflict".
Result<void> check_places(const Dataset& dataset, const std::vector<std::string>& there);

/// `mirror` holds compared_files() as far as the other side has them. A line is added to the file
/// that is there, not to ours. `among`: only what that proposal has too; may be null. Error codes:
/// "conflict" (a definition means something else there), and those of compare() and of reading.
Result<Proposal> propose(const Dataset& dataset, const std::filesystem::path& mirror,
                         const FetchBlobs& fetch, const Proposal* among);

/// Puts the files into a folder as they are in the repository: blobs cloned or linked where that is
/// possible.
Result<void> write_files(const Proposal& proposal, const std::filesystem::path& folder);

/// What was checked, for the checklist: a box is ticked by a check that ran and found nothing.
struct Checks {
  std::size_t validated_workloads = 0, validated_blobs = 0, warnings = 0;
  bool is_valid = false;
  bool is_simulated = false;           ///< our own engine made some of them
  std::vector<std::string> simulated;  ///< definitions that it made some of
  bool has_provenance = false;         ///< collection.json says of all captures which engine ran
  std::size_t loaded = 0, executed = 0, with_reference = 0;  ///< of the new definitions' workloads
  std::size_t to_load = 0;
  std::vector<std::string> unverified;  ///< definitions that verify has not passed as they are now
};

/// The checks of the definitions that bring something new.
Checks checks_of(const Summary& summary);

std::string title_of(const Proposal& proposal, const Summary& summary);
/// `base`: what it was compared with.
std::string description_of(const Proposal& proposal, const Summary& summary, const Checks& checks,
                           std::string_view base);

}  // namespace cw
