// collection.json: what a dataset's workloads were collected from, how often each was seen, and
// every defect by name. One section a capture; sanitizing the same capture again replaces its
// section. There are no times and no paths in it, so that the same input gives the same bytes.
#pragma once

#include "dataset/collection_file.h"
#include "dataset/publication.h"
#include "sanitize/sanitize.h"

namespace cw {

/// What tells one collection's section from another's.
std::string collection_id(const Capture& capture, const Survey& survey);

Json collection_section(const Capture& capture, const SanitizeOutcome& outcome,
                        const SanitizeOptions& options);

/// The dataset's collection.json, or an empty one; read before anything is written. Error code
/// "collection_invalid": it is not what its readers take, and never overwritten.
Result<Json> known_collection(const Dataset& dataset);

/// Puts the section into it, and it into the dataset.
Result<void> write_collection(Publication& publication, Json collection, const Capture& capture,
                              const SanitizeOutcome& outcome, const SanitizeOptions& options);

}  // namespace cw
