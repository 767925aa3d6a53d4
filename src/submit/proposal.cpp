#include "submit/proposal.h"

#include <algorithm>
#include <map>
#include <set>

#include <fcntl.h>

#include "base/console.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/lines.h"
#include "base/output.h"
#include "base/parallel.h"
#include "report/markdown.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t max_text = std::uint64_t{1} << 30;
constexpr std::size_t max_description_length = 60'000;
constexpr std::size_t max_title_length = 180;

std::string definition_file(const Definition& definition) {
  return "definitions/" + definition.op_type + "/" + definition.name + ".json";
}

// The lines of our workloads that the other side lacks, and the blobs they name.
struct NewLines {
  std::string text;
  std::set<std::string> blobs;
};

Result<NewLines> new_lines(const Dataset& dataset, const DefinitionComparison& compared) {
  NewLines result;
  std::set<std::string> wanted(compared.added.begin(), compared.added.end());
  const fs::path path =
      dataset.root / Dataset::workloads_file(dataset.root, *dataset.find(compared.name));
  CW_TRY(LineReader lines, LineReader::open(path));
  for (;;) {
    CW_TRY(const auto line, lines.next());
    if (!line) return result;
    CW_TRY(
        const auto workload,
        parse_stored_workload(line->text, fmt::format("{}, line {}", path.string(), line->number)));
    if (wanted.erase(workload.id) == 0) continue;
    result.text += line->text;
    result.text += '\n';
    result.blobs.merge(blob_paths(workload.json));
  }
}

// "gqa_paged, mla_paged and rmsnorm"
std::string in_words(const std::set<std::string>& names) {
  std::string text;
  std::size_t left = names.size();
  for (const std::string& name : names)
    text += name + (--left > 1 ? ", " : left == 1 ? " and " : "");
  return text;
}

std::string box(bool is_ticked, const std::string& text) {
  return fmt::format("- [{}] {}\n", is_ticked ? 'x' : ' ', text);
}

std::string checklist(const Proposal& proposal, const Summary& summary, const Checks& checks,
                      std::string_view base) {
  std::string text = "## Checklist\n\n";
  text +=
      box(checks.is_valid,
          fmt::format("`collect-workloads validate`: {} workloads, {} blobs, {} warnings",
                      with_separators(checks.validated_workloads),
                      with_separators(checks.validated_blobs), with_separators(checks.warnings)));

  if (base.empty())
    text += box(false, "Compared with what is already there");
  else
    text +=
        box(proposal.undecided == 0,
            fmt::format(
                "Compared with {}: {} of these workloads are already there and left out{}", base,
                with_separators(proposal.known),
                proposal.undecided == 0
                    ? ""
                    : fmt::format(
                          "; of {} it could not be decided, because blobs there could not be read",
                          with_separators(proposal.undecided))));

  text += box(checks.has_provenance && !checks.is_simulated,
              checks.has_provenance || checks.is_simulated
                  ? "Collected from a real engine under traffic"
                  : "Which engine and traffic they come from is recorded");

  // What flashinfer-bench did with them.
  const bool all_loaded = checks.unverified.empty() && checks.loaded == checks.to_load;
  text += box(all_loaded,
              fmt::format("flashinfer-bench's loader generates every input: {} of {} workloads",
                          with_separators(checks.loaded), with_separators(checks.to_load)));

  const std::string device = summary.devices();
  if (all_loaded && checks.with_reference == 0)
    text += "- Not run: none of these definitions has a reference here\n";
  else
    text +=
        box(all_loaded && checks.executed == checks.with_reference,
            fmt::format(
                "Run once through the definition's reference: {} of {} workloads that have one{}",
                with_separators(checks.executed), with_separators(checks.with_reference),
                device.empty() ? "" : ", on " + escape_markdown(device)) +
                (checks.unverified.empty()
                     ? ""
                     : fmt::format("; not verified: {}", fmt::join(checks.unverified, ", "))));

  // What FlashInfer's own replay said.
  const auto& replay = summary.replay;
  text += box(replay && replay->failed == 0 && replay->compared > 0,
              replay ? fmt::format("`flashinfer replay`: {} of {} recorded calls pass, {} of them "
                                   "with outputs to compare",
                                   with_separators(replay->passed), with_separators(replay->dumps),
                                   with_separators(replay->compared))
                     : "`flashinfer replay` over recorded calls");
  return text;
}

}  // namespace

std::vector<std::string> compared_files(const Dataset& dataset) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const Definition& definition : dataset.definitions) {
    if (!fs::exists(dataset.root / Dataset::workloads_file(dataset.root, definition), error))
      continue;
    for (const fs::path& path :
         {fs::path(definition_file(definition)), Dataset::workloads_path(definition)}) {
      paths.push_back(path.string());
      paths.push_back((*path.begin() / path.filename()).string());  // if the other side is flat
    }
  }
  return paths;
}

Result<void> check_places(const Dataset& dataset, const std::vector<std::string>& there) {
  // By file name: the usual place, and the flat one.
  std::map<std::string, std::set<std::string>> expected, found;
  for (const std::string& path : compared_files(dataset))
    expected[fs::path(path).filename().string()].insert(path);

  for (const std::string& path : there) {
    const std::string name = fs::path(path).filename().string();
    const auto places = expected.find(name);
    if (places == expected.end()) continue;
    found[name].insert(path);

    if (!places->second.contains(path) || found[name].size() > 1)
      return fail("conflict",
                  "in the target {} is at {}, but should be at {} alone: it has to be moved "
                  "there first",
                  name, fmt::join(found[name], " and "),
                  *std::ranges::max_element(places->second, [](const auto& a, const auto& b) {
                    return std::ranges::count(a, '/') < std::ranges::count(b, '/');
                  }));
  }
  return {};
}

namespace {

// Keeps of what is new only what is new in the other comparison too.
void keep_common(std::vector<DefinitionComparison>& definitions,
                 const std::vector<DefinitionComparison>& others) {
  std::set<std::pair<std::string, std::string>> wanted;
  for (const DefinitionComparison& compared : others)
    for (const std::string& id : compared.added) wanted.emplace(compared.name, id);
  for (DefinitionComparison& compared : definitions)
    std::erase_if(compared.added, [&](const std::string& id) {
      return !wanted.contains({compared.name, id});
    });
}

// The lines of a file that may not exist, ready for appending.
Result<std::string> lines_there(const fs::path& path) {
  auto text = read_file(AT_FDCWD, path.string(), max_text);
  if (!text && text.error().code == "not_found") return std::string();
  if (text && !text->empty() && text->back() != '\n') *text += '\n';
  return text;
}

}  // namespace

Result<Proposal> propose(const Dataset& dataset, const fs::path& mirror, const FetchBlobs& fetch,
                         const Proposal* among) {
  Proposal proposal;
  CW_TRY(proposal.definitions, compare(dataset, mirror, fetch));

  if (among != nullptr) keep_common(proposal.definitions, among->definitions);
  std::vector<UploadFile> definitions, workloads;
  std::set<std::string> blobs, ids;

  // Definitions and workloads, each with what is there already.
  for (const DefinitionComparison& compared : proposal.definitions) {
    const Definition& definition = *dataset.find(compared.name);
    proposal.added += compared.added.size();
    proposal.known += compared.known;
    proposal.undecided += compared.undecided;
    if (compared.added.empty()) continue;
    if (compared.state == DefinitionState::differs)
      return fail("conflict",
                  "definition {} means something else there (axes, inputs, outputs or constraints "
                  "differ): give yours another name, or take theirs",
                  definition.name);

    if (compared.state == DefinitionState::missing) {
      const fs::path path = dataset.root / dataset.definition_paths.at(definition.name);
      CW_TRY(std::string text, read_file(AT_FDCWD, path.string(), max_text));
      definitions.push_back(UploadFile::of_text(definition_file(definition), std::move(text)));
    }

    CW_TRY(NewLines lines, new_lines(dataset, compared));
    blobs.merge(lines.blobs);
    const std::string path = Dataset::workloads_file(mirror, definition).string();
    CW_TRY(const std::string there, lines_there(mirror / path));
    workloads.push_back(UploadFile::of_text(path, there + lines.text));
    for (const std::string& id : compared.added) ids.insert(definition.name + " " + id);
  }
  proposal.fingerprint = sha256_hex(fmt::format("{}", fmt::join(ids, "\n"))).substr(0, 12);

  // Hashing dominates when blobs are large.
  const std::vector<std::string> paths(blobs.begin(), blobs.end());
  proposal.files.resize(paths.size());
  CW_CHECK(run_in_parallel(paths.size(), [&](std::size_t i) -> Result<void> {
    CW_TRY(const fs::path source, resolve_blob(dataset.root, paths[i]));
    CW_TRY(proposal.files[i], UploadFile::of_file(paths[i], source));
    return {};
  }));
  for (auto* texts : {&definitions, &workloads})
    std::move(texts->begin(), texts->end(), std::back_inserter(proposal.files));
  return proposal;
}

Result<void> write_files(const Proposal& proposal, const fs::path& folder) {
  for (const UploadFile& file : proposal.files) {
    const fs::path path = folder / file.path;
    CW_CHECK(make_directories(path.parent_path()));
    std::error_code ignored;
    fs::remove(path, ignored);
    if (file.source.empty()) {
      CW_CHECK(write_atomically(path, file.content, Durability::process));
    } else {
      CW_CHECK(duplicate_file(file.source, path));
    }
  }
  return {};
}

Checks checks_of(const Summary& summary) {
  Checks checks;
  std::set<std::string> added;
  for (const DefinitionSummary& definition : summary.definitions)
    if (definition.added > 0) added.insert(definition.name);

  std::set<std::string> unknown;  // some capture of these lacks engine, model or traffic
  for (const std::string& name : added)
    if (std::ranges::none_of(summary.captures, [&name](const CaptureSummary& capture) {
          return std::ranges::find(capture.definitions, name) != capture.definitions.end();
        }))
      unknown.insert(name);

  for (const CaptureSummary& capture : summary.captures) {
    const auto concerns = [&added](const std::string& name) { return added.contains(name); };
    if (std::ranges::none_of(capture.definitions, concerns)) continue;
    const auto& run = capture.section.run;
    const bool is_known =
        run && !run->engine.empty() && !run->model.empty() && !run->traffic.is_null();
    if (!is_known) unknown.insert(capture.definitions.begin(), capture.definitions.end());

    checks.is_simulated |= capture.section.is_simulated;
    if (capture.section.is_simulated)
      for (const std::string& name : capture.definitions)
        if (added.contains(name) &&
            std::ranges::find(checks.simulated, name) == checks.simulated.end())
          checks.simulated.push_back(name);
  }

  checks.has_provenance =
      std::ranges::none_of(added, [&](const auto& name) { return unknown.contains(name); });

  // What verify says about them.
  for (const DefinitionSummary& definition : summary.definitions) {
    if (definition.added == 0) continue;
    checks.to_load += definition.workloads.size();
    if (!definition.verification || !definition.verification->is_passed())
      checks.unverified.push_back(definition.name);
    if (!definition.verification) continue;
    checks.loaded += definition.verification->loaded;
    checks.executed += definition.verification->executed;
    if (definition.verification->reference == Reference::ran)
      checks.with_reference += definition.verification->workloads;
  }
  return checks;
}

std::string title_of(const Proposal& proposal, const Summary& summary) {
  std::set<std::string> op_types, models;
  std::size_t definitions = 0;
  for (const DefinitionComparison& compared : proposal.definitions) {
    if (compared.added.empty()) continue;
    ++definitions;
    op_types.insert(compared.op_type);
  }

  for (const CaptureSummary& capture : summary.captures) {
    std::string text = describe_capture(capture);
    std::ranges::replace_if(
        text, [](unsigned char c) { return c < 0x20; }, ' ');
    if (!text.empty()) models.insert(std::move(text));
  }

  std::string title = fmt::format("Add {} workload{} for {} definition{} ({})",
                                  with_separators(proposal.added), proposal.added == 1 ? "" : "s",
                                  definitions, definitions == 1 ? "" : "s", in_words(op_types));
  if (models.size() == 1) title += ": " + *models.begin();
  if (title.size() > max_title_length)
    title = title.substr(0, title.find_last_of(' ', max_title_length)) + " …";
  return fmt::format("{} [{}]", title, proposal.fingerprint);
}

std::string description_of(const Proposal& proposal, const Summary& summary, const Checks& checks,
                           std::string_view base) {
  std::set<std::string> op_types;
  for (const DefinitionComparison& compared : proposal.definitions)
    if (!compared.added.empty()) op_types.insert(compared.op_type);

  std::string text = fmt::format(
      "## Summary\n\n{} workload{} {}, of op type{} {}: shapes and index tensors as FlashInfer's "
      "kernels were called with them. Made with collect-workloads {}.\n\n",
      with_separators(proposal.added), proposal.added == 1 ? "" : "s",
      base.empty() ? "that could not be compared"
                   : fmt::format("that {} not in {}", proposal.added == 1 ? "is" : "are", base),
      op_types.size() == 1 ? "" : "s", in_words(op_types), CW_VERSION);
  const std::string end = checklist(proposal, summary, checks, base);
  std::string details = to_markdown(summary);

  // The details get the remaining space.
  const std::size_t max =
      max_description_length - std::min(max_description_length, text.size() + end.size() + 200);
  if (details.size() > max) {
    details.resize(std::min(details.rfind('\n', max), max));
    details +=
        "\n\nTruncated: too long for a description. `collect-workloads report` shows all of "
        "it.\n\n";
  }
  return text + details + end;
}

}  // namespace cw
