#include "sanitize/section.h"

#include <filesystem>

namespace cw {
namespace {

std::string name_of(NumPages size) {
  switch (size) {
    case NumPages::used:
      return "used";
    case NumPages::pool:
      return "pool";
    case NumPages::compact:
      return "compact";
  }
  return {};
}

std::string name_of(Selection selection) {
  switch (selection) {
    case Selection::all:
      return "all";
    case Selection::diverse:
      return "diverse";
  }
  return {};
}

OptionsRecord record_of(const SanitizeOptions& options) {
  return {name_of(options.selection),        options.num_samples,
          name_of(options.policy.num_pages), options.policy.keep_values,
          options.includes_suspicious,       options.policy.random_below};
}

WorkloadRecord record_of(const KeptWorkload& workload) {
  return {workload.id,
          workload.seen,
          workload.notes.derived,
          workload.notes.sequences,
          workload.notes.is_suspicious,
          workload.is_capture_warmup,
          workload.stands_for};
}

DefinitionRecord record_of(const DefinitionOutcome& definition) {
  DefinitionRecord record;
  record.calls = definition.calls;
  record.status = definition.status;
  record.without_values = definition.unseen;
  record.distinct = definition.distinct;
  record.derived_calls = definition.derived;
  for (const auto& [name, count] : definition.derived)
    if (const auto cite = definition.cites.find(name); cite != definition.cites.end())
      record.derived_because[name] = cite->second;
  record.distribution = definition.distribution;
  for (const KeptWorkload& workload : definition.kept)
    record.workloads.push_back(record_of(workload));
  // Batches that an engine pads for its CUDA graphs: the kernel sees the padding, and so do the
  // workloads.
  record.padded_calls = definition.padded;
  return record;
}

DefectRecord record_of(const TallyKey& key, const TallyItem& item) {
  const std::string example = std::filesystem::path(item.example).filename().string();
  return {key.code, std::string(name(severity_of(key.code))), item.count, key.function, key.detail,
          example};
}

}  // namespace

std::string section_id(const Capture& capture, const Survey& survey) {
  return survey.continues.empty() ? capture.id() : survey.continues;
}

SectionRecord section_of(const Capture& capture, const SanitizeOutcome& outcome,
                         const SanitizeOptions& options) {
  const Survey& survey = outcome.survey;
  SectionRecord section;
  section.id = section_id(capture, survey);
  section.source = capture.kind();
  section.is_simulated = survey.is_simulated;
  section.run = options.run;
  section.flashinfer_versions = survey.flashinfer_versions;
  section.processes = survey.processes.size();
  section.calls = survey.calls;
  section.graph_flushes = survey.graph_flushes;
  section.options = record_of(options);

  for (const auto& [function, counts] : survey.functions)
    section.functions[function] = {counts.calls, counts.bound, counts.sampled, counts.rejected,
                                   counts.skipped};
  for (const DefinitionOutcome& definition : outcome.definitions)
    if (definition.calls > 0 || definition.is_asked_for)
      section.definitions.emplace_back(definition.definition->name, record_of(definition));
  for (const auto& [key, item] : survey.tally.items())
    section.defects.push_back(record_of(key, item));
  return section;
}

}  // namespace cw
