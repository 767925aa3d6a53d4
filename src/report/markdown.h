// A summary as Markdown: the text of a pull request.
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

/// The engine's flags without those common to every run (host, port).
std::string engine_command(const CaptureSummary& capture);

/// Escapes text so that it is not interpreted as Markdown or HTML and does not end a table cell.
std::string escape_markdown(std::string_view text);

/// "1 to 256", "16": the values of one var axis.
std::string axis_range(const DefinitionSummary& definition, std::size_t axis);

}  // namespace cw
