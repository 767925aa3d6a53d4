#include "report/summary.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <set>
#include <unordered_map>

#include "base/console.h"
#include "base/hash.h"
#include "dataset/collection_file.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

CaptureSummary to_capture(const CollectionSection& section) {
  CaptureSummary capture{SectionRecord::from_json(section.head), {}, Json()};
  capture.section.is_simulated = section.is_simulated;
  std::ranges::stable_sort(capture.section.defects, std::greater(), &DefectRecord::count);
  for (const auto& [name, definition] : section.definitions)
    if (DefinitionRecord::from_json(definition.head).calls > 0) capture.definitions.push_back(name);
  if (capture.section.run) capture.run = section.head.at("run");
  return capture;
}

// Inputs whose values are lengths, or offsets that lengths are the differences of.
enum class LengthSource { none, offsets, lengths };
LengthSource length_source(const TensorSpec& spec) {
  if (spec.is_scalar || spec.axes.size() != 1 || !is_integer(spec.dtype)) return LengthSource::none;
  const std::string_view name = spec.name;
  if (name.ends_with("indptr") || name.starts_with("cu_seq")) return LengthSource::offsets;
  if (name == "last_page_len" || name.ends_with("kv_last_page_len")) return LengthSource::none;
  return name.ends_with("len") || name.ends_with("lens") || name.ends_with("len_arr")
             ? LengthSource::lengths
             : LengthSource::none;
}

std::vector<std::int64_t> integers_of(const DenseTensor& tensor) {
  std::vector<std::int64_t> values;
  if (tensor.shape.size() != 1) return values;  // contradicts its definition: validate reports it
  for (std::int64_t i = 0; i < tensor.shape[0]; ++i)
    values.push_back(integer_at(tensor.dtype, tensor.bytes, static_cast<std::size_t>(i)));
  return values;
}

void count_length(LengthHistogram& histogram, std::int64_t length, std::uint64_t times) {
  histogram.max_length = std::max(histogram.max_length, length);
  if (length <= 0) {
    histogram.empty += times;
    return;
  }
  const auto bucket =
      static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(length)) - 1);
  if (histogram.buckets.size() <= bucket) histogram.buckets.resize(bucket + 1);
  histogram.buckets[bucket] += times;
}

class Summarizer {
 public:
  Summarizer(const Dataset& dataset, const SummaryOptions& options)
      : dataset_(dataset), options_(options) {}

  Result<Summary> run() {
    // Only for workloads that exist: a file may list any number of others.
    CW_TRY(const std::vector<const Definition*> wanted,
           choose_definitions(dataset_, options_.definition_names, options_.op_types));
    for (const Definition* definition : wanted) CW_CHECK(note_ids(*definition));

    // How often each was seen, over all captures.
    CW_TRY(const auto sections,
           read_collection(dataset_.root, [this](std::size_t, const std::string& definition,
                                                 Json item) {
             const auto found = frequencies_.find(key_of(definition, string_member(item, "uuid")));
             if (found == frequencies_.end()) return;
             found->second.seen += unsigned_member(item, "seen");
             found->second.stands_for +=
                 unsigned_member(item, item.contains("stands_for") ? "stands_for" : "seen");
           }));

    for (const CollectionSection& section : sections)
      summary_.captures.push_back(to_capture(section));

    CW_TRY(verification_, read_verification(dataset_.root));
    summary_.environment = verification_.environment;
    summary_.replay = verification_.replay;
    summary_.is_compared = options_.comparison != nullptr;

    for (const Definition* definition : wanted) CW_CHECK(add(*definition, sections));
    std::ranges::stable_sort(summary_.definitions,
                             [](const auto& a, const auto& b) { return a.op_type < b.op_type; });
    return std::move(summary_);
  }

 private:
  static Hash128 key_of(const std::string& definition, const std::string& id) {
    return xxh3(definition + "\n" + id);
  }

  Result<void> note_ids(const Definition& definition) {
    return each_stored_workload(dataset_.root, definition, [&](const StoredWorkload& workload) {
      frequencies_.emplace(key_of(definition.name, workload.id), Frequency{});
    });
  }

  Result<void> add(const Definition& definition, const std::vector<CollectionSection>& sections) {
    CW_TRY(const auto stored, read_stored_workloads(dataset_.root, definition));
    if (stored.empty()) return {};
    DefinitionSummary result;

    result.name = definition.name;
    result.op_type = definition.op_type;
    for (const std::string_view model : definition.tag_values("model"))
      result.models.emplace_back(model);
    for (const Axis& axis : definition.axes)
      if (!axis.constant) result.var_axes.push_back(axis.name);

    // What is new, how often it was called, and whether it was verified.
    compared(definition, stored, result);
    for (const CollectionSection& section : sections)
      if (const auto found = section.definitions.find(definition.name);
          found != section.definitions.end())
        count_calls(found->second, result);

    if (verification_.definitions.contains(definition.name)) {
      CW_TRY(const std::string print, fingerprint(dataset_, definition));
      if (const auto* found = verification_.find(definition.name, print))
        result.verification = *found;
    }

    if (options_.has_lengths) add_lengths(definition, stored, result);
    summary_.definitions.push_back(std::move(result));
    return {};
  }

  void compared(const Definition& definition, const std::vector<StoredWorkload>& stored,
                DefinitionSummary& result) const {
    const DefinitionComparison* comparison = nullptr;
    if (options_.comparison != nullptr)
      for (const DefinitionComparison& item : *options_.comparison)
        if (item.name == definition.name) comparison = &item;

    std::set<std::string> added;
    if (comparison != nullptr) {
      added.insert(comparison->added.begin(), comparison->added.end());
      result.others = comparison->others;
      result.undecided = comparison->undecided;
      result.state = comparison->state;
    }

    for (const StoredWorkload& workload : stored) {
      WorkloadSummary item{
          workload.id, {}, 0, 0, options_.comparison == nullptr || added.contains(workload.id)};
      const auto axes = workload.json.find("axes");
      for (const std::string& name : result.var_axes) {
        const bool is_given = axes != workload.json.end() && axes->contains(name) &&
                              axes->at(name).is_number_integer();
        item.axes.push_back(is_given ? axes->at(name).get<std::int64_t>() : 0);
      }

      if (const auto found = frequencies_.find(key_of(definition.name, workload.id));
          found != frequencies_.end()) {
        item.seen = found->second.seen;
        item.stands_for = found->second.stands_for;
      }

      result.added += item.is_new;
      result.workloads.push_back(std::move(item));
    }
  }

  static void count_calls(const CollectedDefinition& collected, DefinitionSummary& result) {
    if (const auto json = parse_json(collected.distribution))
      if (const auto distribution = Distribution::from_json(*json))
        result.distribution.join(*distribution);

    const DefinitionRecord record = DefinitionRecord::from_json(collected.head);
    result.calls += record.calls;
    result.distinct += record.distinct;
    for (const auto& [reason, calls] : record.without_values)
      result.without_values[reason] += calls;
    for (const auto& [input, calls] : record.derived_calls) result.derived_calls[input] += calls;
    for (const auto& [input, text] : record.derived_because) result.derived_because[input] = text;
  }

  // What cannot be read is left out: finding faults is validate's job.
  void add_lengths(const Definition& definition, const std::vector<StoredWorkload>& stored,
                   DefinitionSummary& result) const {
    for (const TensorSpec& spec : definition.inputs) {
      const LengthSource source = length_source(spec);
      if (source == LengthSource::none) continue;
      LengthHistogram histogram{spec.name, 0, {}, 0};
      for (std::size_t i = 0; i < stored.size(); ++i) {
        const std::uint64_t times = std::max<std::uint64_t>(result.workloads[i].stands_for, 1);
        const auto values = stored_integers(stored[i].json, spec.name);
        if (source == LengthSource::lengths)
          for (const std::int64_t length : values) count_length(histogram, length, times);
        else
          for (std::size_t k = 1; k < values.size(); ++k)
            count_length(histogram, values[k] - values[k - 1], times);
      }
      if (histogram.empty != 0 || !histogram.buckets.empty())
        result.lengths.push_back(std::move(histogram));
    }
  }

  std::vector<std::int64_t> stored_integers(const Json& workload, const std::string& input) const {
    const auto inputs = workload.find("inputs");
    if (inputs == workload.end() || !inputs->is_object() || !inputs->contains(input)) return {};
    const Json& spec = inputs->at(input);
    if (string_member(spec, "type") != "safetensors") return {};
    const auto path = resolve_blob(dataset_.root, string_member(spec, "path"));
    if (!path) return {};
    const auto entries = read_safetensors_header(path->string());
    if (!entries) return {};
    for (const SafetensorsEntry& entry : *entries)
      if (entry.name == string_member(spec, "tensor_key"))
        if (const auto tensor = read_blob_entry(*path, entry)) return integers_of(**tensor);
    return {};
  }

  const Dataset& dataset_;
  const SummaryOptions& options_;
  Summary summary_;
  Verification verification_;
  struct Frequency {
    std::uint64_t seen = 0, stands_for = 0;
  };
  std::unordered_map<Hash128, Frequency> frequencies_;  ///< by definition and id
};

std::string_view name(DefinitionState state) {
  return state == DefinitionState::missing ? "new"
         : state == DefinitionState::same  ? "known"
                                           : "differs";
}

Json to_json(const DefinitionSummary& definition, bool is_compared) {
  Json axes = Json::array(), workloads = Json::array(), lengths = Json::array();
  for (const WorkloadSummary& workload : definition.workloads) {
    Json item = {{"uuid", workload.id},
                 {"axes", workload.axes},
                 {"seen", workload.seen},
                 {"stands_for", workload.stands_for}};
    if (is_compared) item["new"] = workload.is_new;
    workloads.push_back(std::move(item));
  }

  for (const LengthHistogram& histogram : definition.lengths)
    lengths.push_back({{"input", histogram.input},
                       {"empty", histogram.empty},
                       {"powers_of_two", histogram.buckets},
                       {"longest", histogram.max_length}});

  Json json = {{"name", definition.name},
               {"op_type", definition.op_type},
               {"models", definition.models},
               {"var_axes", definition.var_axes},
               {"calls", definition.calls},
               {"without_values", definition.without_values},
               {"distribution", definition.distribution.to_json()},
               {"distinct", definition.distinct},
               {"kept", definition.workloads.size()},
               {"derived_calls", definition.derived_calls},
               {"derived_because", definition.derived_because},
               {"lengths", std::move(lengths)}};

  // Only for what was compared or verified.
  if (is_compared) {
    json["definition"] = name(definition.state);
    json["new"] = definition.added;
    json["there"] = definition.others;
    json["undecided"] = definition.undecided;
  }
  if (const auto& verification = definition.verification) {
    json["verification"] = {{"workloads", verification->workloads},
                            {"loaded", verification->loaded},
                            {"executed", verification->executed},
                            {"reference", verification->reference == Reference::ran},
                            {"passed", verification->is_passed()},
                            {"failures", cw::to_json(verification->failures)}};
  }
  json["workloads"] = std::move(workloads);
  return json;
}

Json to_json(const CaptureSummary& capture) {
  const SectionRecord& section = capture.section;
  Json functions = Json::object(), defects = Json::array();
  for (const auto& [name, function] : section.functions) functions[name] = function.to_json();
  for (const DefectRecord& defect : section.defects)
    defects.push_back({{"name", defect.name},
                       {"severity", defect.severity},
                       {"function", defect.function},
                       {"detail", defect.detail},
                       {"count", defect.count},
                       {"example", defect.example}});
  return {{"id", section.id},
          {"source", section.source},
          {"simulated", section.is_simulated},
          {"run", capture.run},
          {"flashinfer_versions", section.flashinfer_versions},
          {"calls", section.calls},
          {"functions", std::move(functions)},
          {"defects", std::move(defects)}};
}

}  // namespace

std::size_t Summary::workloads() const {
  std::size_t sum = 0;
  for (const DefinitionSummary& definition : definitions) sum += definition.workloads.size();
  return sum;
}

std::size_t Summary::added() const {
  std::size_t sum = 0;
  for (const DefinitionSummary& definition : definitions) sum += definition.added;
  return sum;
}

std::string Summary::devices() const {
  std::set<std::string> names;
  for (const DefinitionSummary& definition : definitions)
    if (definition.verification && !definition.verification->device.empty())
      names.insert(definition.verification->device);
  return fmt::format("{}", fmt::join(names, ", "));
}

Result<Summary> summarize(const Dataset& dataset, const SummaryOptions& options) {
  return Summarizer(dataset, options).run();
}

std::vector<std::pair<std::string, std::uint64_t>> parts_of(const Histogram& of_axis,
                                                            std::size_t max) {
  const auto grouped = [](std::int64_t extent) {
    return with_separators(static_cast<std::uint64_t>(extent));
  };
  const Histogram coarse = of_axis.coarsened(max);
  std::vector<std::pair<std::string, std::uint64_t>> parts;
  std::uint64_t unknown = 0;
  for (const auto& [extents, calls] : coarse.cells()) {
    const std::int64_t low = extents[0], high = coarse.last_of(low);
    if (low == unknown_extent)
      unknown = calls;
    else
      parts.emplace_back(low == high ? grouped(low) : grouped(low) + " to " + grouped(high), calls);
  }
  if (unknown > 0) parts.emplace_back("not known", unknown);
  return parts;
}

AxisSpread spread_of(const DefinitionSummary& definition, std::size_t axis) {
  std::map<AxisSpread::Range, std::uint64_t> calls;
  const auto& names = definition.distribution.var_axes;
  const auto found = std::ranges::find(names, definition.var_axes[axis]);
  if (found != names.end()) {
    const Histogram& of_axis =
        definition.distribution.of_axes[static_cast<std::size_t>(found - names.begin())];
    for (const auto& [extents, count] : of_axis.cells()) {
      if (extents[0] == unknown_extent) continue;
      calls[{extents[0], of_axis.last_of(extents[0])}] += count;
    }
  }

  if (calls.empty())
    for (const WorkloadSummary& workload : definition.workloads)
      ++calls[{workload.axes[axis], workload.axes[axis]}];

  // The median is where half of all calls are reached.
  std::uint64_t all = 0, before = 0;
  for (const auto& [extents, count] : calls) all += count;
  for (const auto& [extents, count] : calls) {
    before += count;
    if (before >= all - all / 2) return {calls.begin()->first, extents, calls.rbegin()->first};
  }
  return {};
}

Json to_json(const Summary& summary) {
  Json captures = Json::array(), definitions = Json::array();
  for (const CaptureSummary& capture : summary.captures) captures.push_back(to_json(capture));
  for (const DefinitionSummary& definition : summary.definitions)
    definitions.push_back(to_json(definition, summary.is_compared));
  Json json = {{"format", 1}, {"workloads", summary.workloads()}};
  if (summary.is_compared) json["new"] = summary.added();
  json["captures"] = std::move(captures);
  json["definitions"] = std::move(definitions);
  if (!summary.environment.empty()) json["verified_with"] = summary.environment;
  if (summary.replay) json["replay"] = to_json(*summary.replay);
  return json;
}

}  // namespace cw
