#include "dataset/verification_file.h"

#include <algorithm>

#include <fcntl.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/lines.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t max_device_length = 200;
constexpr std::uint64_t max_file = std::uint64_t{64} << 20;

DefinitionVerification to_definition(const Json& json) {
  DefinitionVerification result;
  result.fingerprint = string_member(json, "fingerprint");
  result.workloads = unsigned_member(json, "workloads");
  result.loaded = unsigned_member(json, "loaded");
  result.executed = unsigned_member(json, "executed");
  const std::string reference = string_member(json, "reference");
  result.reference = reference == "ran"      ? Reference::ran
                     : reference == "absent" ? Reference::absent
                                             : Reference::not_run;
  result.device = string_member(json, "device").substr(0, max_device_length);
  if (json.contains("failures") && json.at("failures").is_array())
    for (const Json& failure : json.at("failures"))
      result.failures.push_back({string_member(failure, "uuid"), string_member(failure, "stage"),
                                 string_member(failure, "message")});
  return result;
}

std::string_view name(Reference reference) {
  return reference == Reference::ran      ? "ran"
         : reference == Reference::absent ? "absent"
                                          : "not_run";
}

Json to_json(const DefinitionVerification& definition) {
  return {{"fingerprint", definition.fingerprint},
          {"workloads", definition.workloads},
          {"loaded", definition.loaded},
          {"executed", definition.executed},
          {"reference", name(definition.reference)},
          {"device", definition.device},
          {"failures", cw::to_json(definition.failures)}};
}

}  // namespace

const DefinitionVerification* Verification::find(const std::string& name,
                                                 const std::string& fingerprint) const {
  const auto found = definitions.find(name);
  return found == definitions.end() || found->second.fingerprint != fingerprint ? nullptr
                                                                                : &found->second;
}

Result<std::string> fingerprint(const Dataset& dataset, const Definition& definition) {
  CW_TRY(const std::string text,
         read_file(AT_FDCWD, (dataset.root / dataset.definition_paths.at(definition.name)).string(),
                   max_file));
  std::vector<std::string> hashes;
  auto lines = LineReader::open(dataset.root / Dataset::workloads_file(dataset.root, definition));
  if (!lines && lines.error().code != "not_found") return tl::unexpected(lines.error());
  while (lines) {
    CW_TRY(const auto line, lines->next());
    if (!line) break;
    CW_TRY(const auto workload, parse_stored_workload(line->text, definition.name));
    const auto identified = identify(dataset.root, definition, workload.json);
    hashes.push_back(sha256_hex(line->text) +
                     (identified ? identified->id : identified.error().code));
  }
  std::ranges::sort(hashes);
  std::string all = sha256_hex(text);
  for (const std::string& hash : hashes) all += hash;
  return sha256_hex(all);
}

Result<Verification> read_verification(const fs::path& root) {
  const std::string path = (root / verification_file).string();
  Verification verification;
  const auto content = read_file(AT_FDCWD, path, max_file);
  if (!content && content.error().code == "not_found") return verification;
  if (!content) return tl::unexpected(content.error());
  const auto json = parse_json(*content);

  if (!json || !json->is_object() || !json->contains("definitions") ||
      !json->at("definitions").is_object())
    return fail("verification_invalid",
                "{}: not a verification.json of this tool; run verify again", path);

  // Files of older versions name the device once for all definitions.
  if (json->contains("environment")) verification.environment = json->at("environment");
  for (const auto& [name, definition] : json->at("definitions").items())
    if (auto& known = verification.definitions[name] = to_definition(definition);
        known.device.empty())
      known.device = string_member(verification.environment, "device").substr(0, max_device_length);

  if (const auto replay = json->find("replay"); replay != json->end() && replay->is_object()) {
    verification.replay = {unsigned_member(*replay, "dumps"),
                           unsigned_member(*replay, "passed"),
                           unsigned_member(*replay, "compared"),
                           unsigned_member(*replay, "failed"),
                           unsigned_member(*replay, "skipped"),
                           unsigned_member(*replay, "undecided"),
                           {},
                           {}};
    if (replay->contains("reasons") && replay->at("reasons").is_object())
      for (const auto& [reason, count] : replay->at("reasons").items())
        if (count.is_number_unsigned())
          verification.replay->reasons[reason] = count.get<std::size_t>();
    if (replay->contains("failures") && replay->at("failures").is_array())
      for (const Json& failure : replay->at("failures"))
        verification.replay->failures.push_back(plain(failure));
  }
  return verification;
}

Json to_json(const std::vector<VerificationFailure>& failures) {
  Json list = Json::array();
  for (const VerificationFailure& failure : failures)
    list.push_back(
        {{"uuid", failure.workload}, {"stage", failure.stage}, {"message", failure.message}});
  return list;
}

Json to_json(const ReplayVerification& replay) {
  return {{"dumps", replay.dumps},       {"passed", replay.passed},
          {"compared", replay.compared}, {"failed", replay.failed},
          {"skipped", replay.skipped},   {"undecided", replay.undecided},
          {"failures", replay.failures}, {"reasons", replay.reasons}};
}

Json to_json(const Verification& verification) {
  Json definitions = Json::object();
  for (const auto& [name, definition] : verification.definitions)
    definitions[name] = to_json(definition);
  Json json = {{"format", 1},
               {"environment", verification.environment},
               {"definitions", std::move(definitions)}};
  if (verification.replay) json["replay"] = to_json(*verification.replay);
  return json;
}

}  // namespace cw
