#include "sanitize/section.h"

#include <filesystem>

#include <fcntl.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/redact.h"

namespace cw {
namespace {

// What is rewritten is in memory whole: some 300,000 workloads.
constexpr std::uint64_t largest_collection = 128 << 20;

std::string_view name(PoolSize size) {
  return size == PoolSize::used ? "used" : size == PoolSize::pool ? "pool" : "compact";
}

Json options_json(const SanitizeOptions& options) {
  Json json = {{"select", options.selection == Selection::all ? "all" : "diverse"},
               {"num_samples", options.num_samples},
               {"num_pages", name(options.policy.pool_size)},
               {"keep_values", options.policy.keep_values}};
  if (options.includes_suspicious) json["include_suspicious"] = true;
  if (options.policy.random_below) json["random_below"] = *options.policy.random_below;
  return json;
}

Json functions_json(const Survey& survey) {
  Json json = Json::object();
  for (const auto& [function, counts] : survey.functions)
    json[function] = {{"calls", counts.calls},
                      {"bound", counts.bound},
                      {"sampled", counts.sampled},
                      {"rejected", counts.rejected},
                      {"skipped", counts.skipped}};
  return json;
}

Json defects_json(const Survey& survey) {
  Json json = Json::array();
  for (const auto& [key, item] : survey.tally.items()) {
    Json defect = {
        {"name", key.code}, {"severity", name(severity_of(key.code))}, {"count", item.count}};
    if (!key.function.empty()) defect["function"] = key.function;
    if (!key.detail.empty()) defect["detail"] = key.detail;
    if (!item.example.empty())
      defect["example"] = std::filesystem::path(item.example).filename().string();
    json.push_back(std::move(defect));
  }
  return json;
}

// What tells two lists of one collection apart, which may have been sanitized twice in different
// ways.
std::string list_id(const std::vector<KeptWorkload>& kept) {
  std::string ids = "list";
  for (const KeptWorkload& workload : kept) ids += "\n" + workload.id;
  return uuid_v5(ids);
}

Json definitions_json(const SanitizeOutcome& outcome) {
  Json json = Json::object();
  for (const DefinitionOutcome& definition : outcome.definitions) {
    if (definition.calls == 0) {
      if (definition.is_asked_for)
        json[definition.definition->name] = {{"calls", 0}, {"status", definition.status}};
      continue;
    }
    Json cites = Json::object();
    for (const auto& [name, count] : definition.derived)
      if (const auto cite = definition.cites.find(name); cite != definition.cites.end())
        cites[name] = cite->second;
    Json kept = Json::array();
    for (const KeptWorkload& workload : definition.kept) {
      Json item = {{"uuid", workload.id}, {"seen", workload.seen}};
      if (!workload.notes.derived.empty()) item["derived"] = workload.notes.derived;
      if (workload.notes.sequences) item["sequences"] = *workload.notes.sequences;
      if (workload.notes.is_suspicious) item["suspicious"] = true;
      if (workload.is_capture_warmup) item["capture_warmup"] = true;
      item["stands_for"] = workload.stands_for;
      kept.push_back(std::move(item));
    }
    json[definition.definition->name] = {
        {"calls", definition.calls},           {"without_values", definition.unseen},
        {"distinct", definition.distinct},     {"derived_calls", definition.derived},
        {"derived_because", std::move(cites)}, {"distribution", definition.distribution.to_json()},
        {"kept", definition.kept.size()},      {"list", list_id(definition.kept)},
        {"workloads", std::move(kept)}};
    // Batches that an engine fills up for its CUDA graphs: the kernel sees the padding, and so do
    // the workloads.
    if (definition.padded > 0)
      json[definition.definition->name]["padded_calls"] = definition.padded;
  }
  return json;
}

}  // namespace

std::string collection_id(const Capture& capture, const Survey& survey) {
  return survey.continues.empty() ? capture.id() : survey.continues;
}

Json collection_section(const Capture& capture, const SanitizeOutcome& outcome,
                        const SanitizeOptions& options) {
  const Survey& survey = outcome.survey;
  Json section = {{"id", collection_id(capture, survey)}, {"source", capture.kind()}};
  const Json& run = options.provenance;
  if (survey.is_simulated || bool_member(run, "simulated")) section["simulated"] = true;
  if (!run.is_null()) section["run"] = redact(run);
  section.update({{"flashinfer_versions", survey.flashinfer_versions},
                  {"processes", survey.processes.size()},
                  {"calls", survey.calls},
                  {"graph_flushes", survey.graph_flushes},
                  {"options", options_json(options)},
                  {"functions", functions_json(survey)},
                  {"definitions", definitions_json(outcome)},
                  {"defects", defects_json(survey)}});
  return section;
}

Result<Json> known_collection(const Dataset& dataset) {
  const std::filesystem::path path = dataset.root / collection_file;
  const auto content = read_file(AT_FDCWD, path.string(), largest_collection);
  if (!content && content.error().code == "not_found")
    return Json{{"format", 1}, {"captures", Json::array()}};
  if (!content && content.error().code != "too_large") return tl::unexpected(content.error());

  auto known = content ? parse_json(*content, collection_limits) : std::nullopt;
  if (known) {
    CW_CHECK(check_collection(path, *known));
    return std::move(*known);
  }
  // None of this tool's, or more than is held in memory here.
  CW_CHECK(read_collection(dataset.root, [](std::size_t, const std::string&, Json) {}));
  return fail("collection_invalid",
              "{}: holds more than one run can add to; collect into a new folder and merge the two",
              path.string());
}

Result<void> write_collection(Publication& publication, Json collection, const Capture& capture,
                              const SanitizeOutcome& outcome, const SanitizeOptions& options) {
  Json section = collection_section(capture, outcome, options);
  const std::string id = string_member(section, "id");
  bool replaced = false;
  for (Json& known : collection["captures"])
    if (string_member(known, "id") == id) {
      known = section;
      replaced = true;
    }
  if (!replaced) collection["captures"].push_back(std::move(section));
  return publication.write(collection_file, dump_indented(collection) + "\n");
}

}  // namespace cw
