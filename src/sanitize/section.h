// A capture's section of collection.json. Sanitizing the same capture again replaces its section.
// Apart from a run's record, it contains no times or paths, so that the same input gives the same
// bytes.
#pragma once

#include "dataset/collection_file.h"
#include "dataset/collection_records.h"
#include "dataset/publication.h"
#include "sanitize/sanitize.h"

namespace cw {

/// Identifies a capture's section.
std::string section_id(const Capture& capture, const Survey& survey);

SectionRecord section_of(const Capture& capture, const SanitizeOutcome& outcome,
                         const SanitizeOptions& options);

}  // namespace cw
