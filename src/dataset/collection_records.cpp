#include "dataset/collection_records.h"

#include <algorithm>
#include <cmath>

#include "base/hash.h"
#include "base/redact.h"

namespace cw {
namespace {

// A number as an amount: neither negative nor impossibly large.
double amount_of(const Json& json) {
  return json.is_number() ? std::clamp(json.get<double>(), 0.0, 1e15) : 0;
}

double amount_member(const Json& object, const char* name) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() ? amount_of(*found) : 0;
}

std::uint64_t count_member(const Json& object, const char* name) {
  return static_cast<std::uint64_t>(amount_member(object, name));
}

// The member, or null.
const Json& member(const Json& object, const char* name) {
  static const Json null;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() ? *found : null;
}

// For display: a string as it is, anything else as JSON; empty if absent.
std::string text_member(const Json& object, const char* name) {
  const Json& value = member(object, name);
  return value.is_null() ? std::string() : plain(value);
}

std::vector<std::string> texts_of(const Json& list) {
  std::vector<std::string> texts;
  if (list.is_array())
    for (const Json& item : list)
      if (item.is_string()) texts.push_back(item.get<std::string>());
  return texts;
}

std::map<std::string, std::uint64_t> counts_of(const Json& object) {
  std::map<std::string, std::uint64_t> counts;
  if (object.is_object())
    for (const auto& [name, count] : object.items())
      if (count.is_number_unsigned()) counts[name] = count.get<std::uint64_t>();
  return counts;
}

// Distinguishes lists of one collection that was sanitized twice in different ways.
std::string list_id(const std::vector<WorkloadRecord>& workloads) {
  std::string ids = "list";
  for (const WorkloadRecord& workload : workloads) ids += "\n" + workload.id;
  return uuid_v5(ids);
}

}  // namespace

Json FunctionRecord::to_json() const {
  return {{"calls", calls},
          {"bound", bound},
          {"sampled", sampled},
          {"rejected", rejected},
          {"skipped", skipped}};
}

FunctionRecord FunctionRecord::from_json(const Json& json) {
  return {count_member(json, "calls"), count_member(json, "bound"), count_member(json, "sampled"),
          count_member(json, "rejected"), count_member(json, "skipped")};
}

Json DefectRecord::to_json() const {
  Json json = {{"name", name}, {"severity", severity}, {"count", count}};
  if (!function.empty()) json["function"] = function;
  if (!detail.empty()) json["detail"] = detail;
  if (!example.empty()) json["example"] = example;
  return json;
}

DefectRecord DefectRecord::from_json(const Json& json) {
  return {string_member(json, "name"),    string_member(json, "severity"),
          unsigned_member(json, "count"), string_member(json, "function"),
          string_member(json, "detail"),  string_member(json, "example")};
}

Json OptionsRecord::to_json() const {
  Json json = {{"select", select},
               {"num_samples", num_samples},
               {"num_pages", num_pages},
               {"keep_values", keep_values}};
  if (includes_suspicious) json["include_suspicious"] = true;
  if (random_below) json["random_below"] = *random_below;
  return json;
}

Json WorkloadRecord::to_json() const {
  Json json = {{"uuid", id}, {"seen", seen}};
  if (!derived.empty()) json["derived"] = derived;
  if (sequences) json["sequences"] = *sequences;
  if (is_suspicious) json["suspicious"] = true;
  if (is_capture_warmup) json["capture_warmup"] = true;
  json["stands_for"] = stands_for;
  return json;
}

Json DefinitionRecord::to_json() const {
  if (calls == 0) return {{"calls", 0}, {"status", status}};

  Json items = Json::array();
  for (const WorkloadRecord& workload : workloads) items.push_back(workload.to_json());
  Json json = {{"calls", calls},
               {"without_values", without_values},
               {"distinct", distinct},
               {"derived_calls", derived_calls},
               {"derived_because", derived_because},
               {"distribution", distribution.to_json()},
               {"kept", workloads.size()},
               {"list", list_id(workloads)},
               {"workloads", std::move(items)}};
  if (padded_calls > 0) json["padded_calls"] = padded_calls;
  return json;
}

DefinitionRecord DefinitionRecord::from_json(const Json& json) {
  DefinitionRecord record;
  record.calls = unsigned_member(json, "calls");
  record.status = string_member(json, "status");
  record.without_values = counts_of(member(json, "without_values"));
  record.distinct = unsigned_member(json, "distinct");
  record.derived_calls = counts_of(member(json, "derived_calls"));
  if (const Json& because = member(json, "derived_because"); because.is_object())
    for (const auto& [input, text] : because.items())
      if (text.is_string()) record.derived_because[input] = text.get<std::string>();
  record.padded_calls = unsigned_member(json, "padded_calls");
  return record;
}

Json ScheduleRecord::to_json() const {
  Json json = {{"concurrency", concurrency},
               {"rate", rate},
               {"trace_arrivals", follows_arrivals},
               {"requests", requests}};
  if (reached) json["reached"] = *reached;
  return json;
}

TrafficRecord TrafficRecord::from_json(const Json& json) {
  return {amount_member(json, "completed"), amount_member(json, "sent"),
          amount_member(json, "input_tokens"), amount_member(json, "output_tokens"),
          amount_member(json, "seconds")};
}

Json TimelineRecord::to_json() const {
  Json rows = Json::array();
  for (const TimelineSample& sample : samples)
    rows.push_back({std::round(sample.seconds * 1000) / 1000, sample.requests, sample.output_tokens,
                    sample.calls, sample.disk_bytes, sample.under_way});
  return {{"columns", {"s", "requests", "output_tokens", "calls", "disk_bytes", "under_way"}},
          {"samples", std::move(rows)}};
}

TimelineRecord TimelineRecord::from_json(const Json& json) {
  const std::vector<std::string> columns = texts_of(member(json, "columns"));
  TimelineRecord record;
  if (!member(json, "samples").is_array()) return record;

  // By column name; a row that is too short or holds something else is left out.
  for (const Json& row : member(json, "samples")) {
    const auto is_number = [](const Json& cell) { return cell.is_number(); };
    if (!row.is_array() || row.size() < columns.size() || !std::ranges::all_of(row, is_number))
      continue;
    const auto cell = [&](std::string_view column) {
      const auto found = std::ranges::find(columns, column);
      const auto place = static_cast<std::size_t>(found - columns.begin());
      return found == columns.end() ? 0.0 : amount_of(row[place]);
    };
    const auto count = [&](std::string_view column) {
      return static_cast<std::uint64_t>(cell(column));
    };
    record.samples.push_back({cell("s"), count("requests"), count("output_tokens"), count("calls"),
                              count("disk_bytes"), count("under_way")});
  }
  return record;
}

Json RunRecord::to_json() const {
  Json variables = Json::object(), list = Json::array();
  for (const auto& [name, value] : environment) variables[name] = value;
  for (const ScheduleRecord& schedule : schedules) list.push_back(schedule.to_json());

  // How it was set up.
  Json json = {{"engine", engine},
               {"simulated", is_simulated},
               {"version", version},
               {"model", model},
               {"tensor_parallel", tensor_parallel},
               {"profile", profile},
               {"command", command},
               {"environment", std::move(variables)},
               {"capture", capture},
               {"started", started},
               {"prompts", prompts},
               {"schedules", std::move(list)},
               {"disk_budget_bytes", disk_budget}};
  json.update(capture_settings);

  // How it went.
  json["traffic"] = traffic;
  json["ready_after_s"] = ready_seconds.value_or(0);
  json["timeline"] = timeline.to_json();
  json["peak_disk_bytes"] = peak_disk.value_or(0);
  json["engine_frozen_times"] = times_frozen;
  json["saturated"] = is_saturated;
  json["interrupted"] = is_interrupted;
  if (resumed_after) json["resumed_after_requests"] = *resumed_after;
  if (sent_twice > 0) json["requests_sent_twice"] = sent_twice;
  if (!failure.empty()) json["failure"] = failure;
  if (!server.empty()) json["server"] = server;
  return json;
}

RunRecord RunRecord::from_json(const Json& json) {
  RunRecord record;
  record.engine = string_member(json, "engine");
  record.is_simulated = bool_member(json, "simulated");
  record.version = text_member(json, "version");
  record.model = text_member(json, "model");
  record.tensor_parallel = static_cast<int>(std::min(amount_member(json, "tensor_parallel"), 1e6));
  record.profile = string_member(json, "profile");
  record.command = texts_of(member(json, "command"));
  record.capture = string_member(json, "capture");
  record.started = text_member(json, "started");
  record.prompts = text_member(json, "prompts");
  record.disk_budget = count_member(json, "disk_budget_bytes");
  record.traffic = member(json, "traffic");
  if (json.contains("ready_after_s")) record.ready_seconds = amount_member(json, "ready_after_s");
  record.timeline = TimelineRecord::from_json(member(json, "timeline"));
  if (json.contains("peak_disk_bytes")) record.peak_disk = count_member(json, "peak_disk_bytes");
  record.failure = text_member(json, "failure");
  return record;
}

Json SectionRecord::to_json() const {
  Json json = {{"id", id}, {"source", source}};
  if (is_simulated || (run && run->is_simulated)) json["simulated"] = true;
  if (run) json["run"] = redact(run->to_json());

  Json functions_json = Json::object(), definitions_json = Json::object();
  Json defects_json = Json::array();
  for (const auto& [name, function] : functions) functions_json[name] = function.to_json();
  for (const auto& [name, definition] : definitions) definitions_json[name] = definition.to_json();
  for (const DefectRecord& defect : defects) defects_json.push_back(defect.to_json());
  json.update({{"flashinfer_versions", flashinfer_versions},
               {"processes", processes},
               {"calls", calls},
               {"graph_flushes", graph_flushes},
               {"options", options.to_json()},
               {"functions", std::move(functions_json)},
               {"definitions", std::move(definitions_json)},
               {"defects", std::move(defects_json)}});
  return json;
}

SectionRecord SectionRecord::from_json(const Json& json) {
  SectionRecord record;
  record.id = string_member(json, "id");
  record.source = string_member(json, "source");
  record.is_simulated = bool_member(json, "simulated");
  if (const Json& run = member(json, "run"); run.is_object())
    record.run = RunRecord::from_json(run);
  const std::vector<std::string> versions = texts_of(member(json, "flashinfer_versions"));
  record.flashinfer_versions = {versions.begin(), versions.end()};
  record.processes = static_cast<std::size_t>(unsigned_member(json, "processes"));
  record.calls = unsigned_member(json, "calls");
  record.graph_flushes = unsigned_member(json, "graph_flushes");

  if (const Json& functions = member(json, "functions"); functions.is_object())
    for (const auto& [name, counts] : functions.items())
      if (counts.is_object()) record.functions[name] = FunctionRecord::from_json(counts);
  if (const Json& defects = member(json, "defects"); defects.is_array())
    for (const Json& defect : defects) record.defects.push_back(DefectRecord::from_json(defect));
  return record;
}

}  // namespace cw
