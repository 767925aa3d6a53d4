// The table of defects: what can go wrong with a call or a capture, how bad that is, and what it
// means.
//
// A code is emitted where the problem is noticed (fail(), Rejection, CaptureDefect) and counted in
// a Tally. Every such code is in this table, which a test enforces; docs/defects.md is generated
// from it. Codes not in it are the reasons of bindings for excluding a call (`reasons` in
// data/bindings.yaml): those are in the nature of the call, not defects.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace cw {

enum class Severity {
  info,     ///< in the nature of the capture
  warning,  ///< may be worth a look
  error,    ///< damage
};
std::string_view name(Severity severity);

struct Defect {
  std::string_view code;
  Severity severity;
  std::string_view help;  ///< one line for people
  /// Its message describes all calls of a kind, so calls are counted by message; other messages
  /// describe a single call.
  bool is_grouped = false;
};

/// By code.
std::span<const Defect> defects();
/// Null for the reasons of bindings.
const Defect* find_defect(std::string_view code);

Severity severity_of(std::string_view code);
bool is_grouped(std::string_view code);

/// The table in Markdown.
std::string defects_page();

}  // namespace cw
