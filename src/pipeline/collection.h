// collection.json: what a dataset's workloads were collected from, how often each was seen, and every
// defect by name. One section a capture; sanitizing the same capture again replaces its section. There
// are no times and no paths in it, so that the same input gives the same bytes.
#pragma once

#include "dataset/collection_file.h"
#include "dataset/publication.h"
#include "pipeline/sanitize.h"

namespace cw {

/// What tells one collection's section from another's.
std::string collection_id(const Capture& capture, const Survey& survey);

Json collection_section(const Capture& capture, const SanitizeOutcome& outcome, const SanitizeOptions& options);

/// Puts the section into the dataset's collection.json. An unreadable collection.json is an error
/// ("collection_invalid"): it is not overwritten.
Result<void> write_collection(Publication& publication, const Dataset& dataset, const Capture& capture,
                              const SanitizeOutcome& outcome, const SanitizeOptions& options);

}  // namespace cw
