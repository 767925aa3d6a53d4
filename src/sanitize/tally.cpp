#include "sanitize/tally.h"

#include <algorithm>
#include <array>

namespace cw {
namespace {

// Distinct causes that are told apart; a damaged capture could have any number.
constexpr std::size_t most_groups = 1000;

constexpr std::array errors{
    "metadata_malformed",
    "metadata_missing",
    "metadata_disagrees",
    "tensors_missing",
    "safetensors_malformed",
    "torch_archive_malformed",
    "torch_archive_refused",
    "pickle_refused",
    "pickle_malformed",
    "truncated",
    "unreadable",
    "signature_malformed",
    "signature_mismatch",
    "structure",
    "axes_disagree",
    "constraint",
    "too_large",
    "session_unreadable",
    "unreadable_folder",
    "not_found",
    "definition_invalid",
    "expression_type",
    "internal",
    "folders_too_deep",
    "recording_damaged",
    "recording_unreadable",
    "recording_unknown",
    "record_malformed",
};
constexpr std::array warnings{
    "captured_in_cuda_graph",
    "call_unfinished",
    "plan_missing",
    "recording_not_ended",
    "plan_in_doubt",
    "order_in_doubt",
    "scalar_unknown",
    "input_missing",
    "input_shape",
    "dtype",
    "unnamed_arguments",
    "capture_warmup",
    "no_binding",
    "existing_unreadable",
    "axes_unknown",
    "other_half_missing",
    "suspicious_dummy",
    "before_traffic",
    "calls_missing",
    "events_lost",
    "calls_lost",
    "replays_lost",
    "calls_over_budget",
    "values_lost",
    "values_in_graph",
};

template <typename List>
bool contains(const List& list, std::string_view code) {
  return std::find(list.begin(), list.end(), code) != list.end();
}

}  // namespace

std::string_view name(Severity severity) {
  return severity == Severity::error ? "error" : severity == Severity::warning ? "warning" : "info";
}

Severity severity_of(std::string_view code) {
  return contains(errors, code)     ? Severity::error
         : contains(warnings, code) ? Severity::warning
                                    : Severity::info;
}

void Tally::add(std::string_view code, std::string_view function, std::string_view message,
                std::size_t position, bool grouped, std::uint64_t count) {
  TallyKey key{std::string(code), std::string(function),
               grouped ? std::string(message) : std::string()};
  if (grouped && items_.size() >= most_groups && !items_.contains(key)) key.detail.clear();
  TallyItem& item = items_[std::move(key)];
  item.count += count;
  if (position >= item.first) return;
  item.first = position;
  item.message = message;
  item.example.clear();
}

}  // namespace cw
