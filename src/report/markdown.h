// A summary as Markdown: what a pull request says of itself.
#pragma once

#include <string>

#include "report/summary.h"

namespace cw {

/// Sections "Collection details", "Definitions", "Statistics", "Verification" (if there was one)
/// and, where something went wrong, "Rejected calls".
std::string to_markdown(const Summary& summary);

/// "SGLang 0.5.17 FlashInfer 0.6.15.post1, meta-llama/Llama-3.1-8B, TP 1": a capture in a few
/// words.
std::string describe_capture(const CaptureSummary& capture);

/// The engine's flags without those of every run (host, port).
std::string engine_command(const CaptureSummary& capture);

/// Text that cannot be taken for Markdown or HTML, nor end a table's cell.
std::string escape_markdown(std::string_view text);

/// "1 to 256", "16": the values of one var axis.
std::string axis_range(const DefinitionSummary& definition, std::size_t axis);

}  // namespace cw
