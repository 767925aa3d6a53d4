// The section of collection.json that a capture gives. Sanitizing the same capture again replaces
// its section. There are no times and no paths in it but what a run's record says, so that the same
// input gives the same bytes.
#pragma once

#include "dataset/collection_file.h"
#include "dataset/collection_records.h"
#include "dataset/publication.h"
#include "sanitize/sanitize.h"

namespace cw {

/// What tells one capture's section from another's.
std::string section_id(const Capture& capture, const Survey& survey);

SectionRecord section_of(const Capture& capture, const SanitizeOutcome& outcome,
                         const SanitizeOptions& options);

}  // namespace cw
