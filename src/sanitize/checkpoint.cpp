#include "sanitize/checkpoint.h"

#include <charconv>

#include <fcntl.h>

#include "base/file.h"
#include "dataset/dataset.h"
#include "sanitize/section.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr int format = 2;
constexpr std::uint64_t max_state = std::uint64_t{4} << 30;
constexpr const char* state_file = "state.json";

std::string to_text(const Hash128& key) {
  return fmt::format("{:016x}{:016x}", key.high, key.low);
}

Hash128 to_key(const std::string& text) {
  Hash128 key;
  if (text.size() != 32) throw std::invalid_argument("no key: " + text);
  std::from_chars(text.data(), text.data() + 16, key.high, 16);
  std::from_chars(text.data() + 16, text.data() + 32, key.low, 16);
  return key;
}

Json tally_json(const Tally& tally) {
  Json json = Json::array();
  for (const auto& [key, item] : tally.items()) {
    json.push_back({key.code, key.function, key.detail, item.count, item.message, item.example});
  }
  return json;
}

Json counts_json(const DefinitionCounts& counts) {
  return {{"calls", counts.calls},
          {"unseen", counts.unseen},
          {"distribution",
           counts.distribution.to_json(Distribution::max_counted, Distribution::max_counted)},
          {"derived", counts.derived},
          {"padded", counts.padded},
          {"ranges", counts.ranges},
          {"cells", counts.cells},
          {"calls_at_last_cell", counts.calls_at_last_cell}};
}

// The readers below throw nlohmann's errors, or std::invalid_argument, on anything save() does not
// write.
DefinitionCounts to_counts(const Json& json) {
  DefinitionCounts counts;
  json.at("calls").get_to(counts.calls);
  json.at("unseen").get_to(counts.unseen);
  auto distribution = Distribution::from_json(json.at("distribution"));
  if (!distribution) throw std::invalid_argument("no distribution");
  counts.distribution = std::move(*distribution);
  json.at("derived").get_to(counts.derived);
  json.at("padded").get_to(counts.padded);
  json.at("ranges").get_to(counts.ranges);
  json.at("cells").get_to(counts.cells);
  json.at("calls_at_last_cell").get_to(counts.calls_at_last_cell);
  return counts;
}

DistinctWorkload to_entry(const Json& json, const Definition& definition) {
  DistinctWorkload entry{.key = to_key(json.at("key").get<std::string>())};
  json.at("axes").get_to(entry.var_axes);
  json.at("seen").get_to(entry.seen);
  json.at("derived").get_to(entry.notes.derived);
  if (const auto sequences = json.at("sequences").get<std::int64_t>(); sequences >= 0)
    entry.notes.sequences = sequences;
  json.at("suspicious").get_to(entry.notes.is_suspicious);
  json.at("capture_warmup").get_to(entry.is_capture_warmup);
  std::size_t axes = 0;
  for (const Axis& axis : definition.axes) axes += !axis.constant;
  if (entry.var_axes.size() != axes)
    throw std::invalid_argument("other axes than " + definition.name);
  return entry;
}

void read_survey(const Json& json, Survey& survey) {
  json.at("id").get_to(survey.continues);
  json.at("calls").get_to(survey.calls);
  json.at("graph_flushes").get_to(survey.graph_flushes);
  json.at("flashinfer_versions").get_to(survey.flashinfer_versions);
  survey.is_simulated = json.value("simulated", false);
  for (const Json& process : json.at("processes"))
    survey.processes.insert({0, process.get<std::int64_t>(), 0});
  for (const auto& [function, counts] : json.at("functions").items())
    survey.functions[function] = {
        counts.at(0), counts.at(1), counts.at(2), counts.at(3), counts.at(4), {}, {}};
  for (const Json& item : json.at("tally"))
    survey.tally.items()[{item.at(0), item.at(1), item.at(2)}] = {
        .count = item.at(3), .message = item.at(4), .example = item.at(5)};
}

Result<Json> read_state(const fs::path& folder) {
  CW_TRY(const std::string text, read_file(AT_FDCWD, (folder / state_file).string(), max_state));
  auto json = parse_json(text, trusted_json);
  if (!json || !json->is_object() || json->value("format", Json()) != format ||
      !json->contains("more"))
    return fail("checkpoint_malformed", "{}: not a checkpoint of this version",
                (folder / state_file).string());
  return std::move(*json);
}

}  // namespace

Result<Json> Checkpoint::stored_line(const Target* target, const Hash128& key,
                                     const Workload& workload) {
  const auto known = stored_.find({target, key});
  if (known != stored_.end()) return known->second.first;
  const std::string id = workload_id(workload);
  const std::string blob = blob_path(workload, id);
  if (!blob.empty()) {
    CW_CHECK(make_private_directories((folder_ / blob).parent_path()));
    CW_CHECK(write_atomically(folder_ / blob, blob_content(workload), Durability::process,
                              Access::owner));
  }
  Json line = parse_json(workload_line(workload, id))->at("workload");
  stored_.emplace(Key{target, key}, std::pair(line, blob));
  return line;
}

Result<void> Checkpoint::save(const Capture& capture, const Binder& binder, const Survey& survey,
                              const RetainedWorkloads& retained, const Json& more) {
  CW_CHECK(make_private_directories(folder_));
  Json functions = Json::object(), processes = Json::array(), definitions = Json::object();
  for (const auto& [function, c] : survey.functions)
    functions[function] = {c.calls, c.bound, c.sampled, c.rejected, c.skipped};
  for (const WrapperId& process : survey.processes) processes.push_back(process.process);
  std::set<Key> current;
  for (const Target& target : binder.targets()) {
    const auto counts = survey.definitions.find(&target);
    if (counts == survey.definitions.end()) continue;
    Json entries = Json::array();
    Result<void> written;
    survey.distinct.visit(&target, [&](const DistinctWorkload& entry, bool is_capture_warmup) {
      Json item = {{"key", to_text(entry.key)},
                   {"axes", entry.var_axes},
                   {"seen", entry.seen},
                   {"derived", entry.notes.derived},
                   {"sequences", entry.notes.sequences.value_or(-1)},
                   {"suspicious", entry.notes.is_suspicious},
                   {"capture_warmup", is_capture_warmup}};
      if (const Workload* workload = retained.find(&target, entry.key);
          workload != nullptr && written) {
        auto line = stored_line(&target, entry.key, *workload);
        if (!line)
          written = tl::unexpected(line.error());
        else
          item["workload"] = std::move(*line);
        current.insert({&target, entry.key});
      }
      entries.push_back(std::move(item));
    });
    CW_CHECK(written);
    Json definition = counts_json(counts->second);
    definition["workloads"] = std::move(entries);
    definitions[target.definition->name] = std::move(definition);
  }
  const Json state = {{"format", format},
                      {"id", section_id(capture, survey)},
                      {"calls", survey.calls},
                      {"graph_flushes", survey.graph_flushes},
                      {"flashinfer_versions", survey.flashinfer_versions},
                      {"simulated", survey.is_simulated},
                      {"processes", std::move(processes)},
                      {"functions", std::move(functions)},
                      {"tally", tally_json(survey.tally)},
                      {"definitions", std::move(definitions)},
                      {"more", more}};
  CW_CHECK(write_atomically(folder_ / state_file, dump(state), Durability::process, Access::owner));

  // Files of workloads no longer retained, now that no state names them.
  std::error_code ignored;
  std::erase_if(stored_, [&](const auto& item) {
    if (current.contains(item.first)) return false;
    if (!item.second.second.empty()) fs::remove(folder_ / item.second.second, ignored);
    return true;
  });
  return {};
}

Result<Json> Checkpoint::load(const Binder& binder, Survey& survey, RetainedWorkloads& retained) {
  CW_TRY(const Json state, read_state(folder_));
  try {
    read_survey(state, survey);

    for (const Target& target : binder.targets()) {
      const auto found = state.at("definitions").find(target.definition->name);
      if (found == state.at("definitions").end()) continue;
      survey.definitions[&target] = to_counts(*found);
      for (const Json& item : found->at("workloads")) {
        DistinctWorkload entry = to_entry(item, *target.definition);

        // A workload whose stored values no longer yield its key is not taken over.
        if (const auto line = item.find("workload"); line != item.end()) {
          auto workload = load_workload(folder_, *target.definition, *line);
          if (workload && content_key(*workload) == entry.key) {
            const std::string blob = blob_path(*workload, string_member(*line, "uuid"));
            stored_.emplace(Key{&target, entry.key}, std::pair(*line, blob));
            retained.add(&target, entry.key, std::move(*workload));
          }
        }

        survey.distinct.restore(&target, std::move(entry));
      }
    }
    return state.at("more");
  } catch (const std::exception& error) {
    return fail("checkpoint_malformed", "{}: {}", (folder_ / state_file).string(), error.what());
  }
}

Result<void> Checkpoint::mark(const Json& more) {
  CW_TRY(Json state, read_state(folder_));
  state["more"] = more;
  return write_atomically(folder_ / state_file, dump(state), Durability::process, Access::owner);
}

Result<void> Checkpoint::conclude(const Json& more) {
  CW_CHECK(write_atomically(folder_ / state_file, dump(Json{{"format", format}, {"more", more}}),
                            Durability::process, Access::owner));
  std::error_code ignored;
  fs::remove_all(folder_ / "blob", ignored);
  stored_.clear();
  return {};
}

Json Checkpoint::more_of(const fs::path& folder) {
  auto state = read_state(folder);
  return state ? std::move(state->at("more")) : Json();
}

}  // namespace cw
