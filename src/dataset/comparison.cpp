#include "dataset/comparison.h"

#include <map>
#include <set>
#include <string_view>

namespace cw {
namespace {

namespace fs = std::filesystem;

std::string axes_text(const Json& workload) {
  const auto axes = workload.find("axes");
  return axes == workload.end()
             ? ""
             : dump(nlohmann::json::parse(dump(*axes)));  // members sorted by name
}

// Axes and inputs without blob paths; members sorted by name.
nlohmann::json content_of(const Json& workload) {
  nlohmann::json content = {{"axes", nlohmann::json::object()},
                            {"inputs", nlohmann::json::object()}};
  for (const char* member : {"axes", "inputs"})
    if (workload.contains(member))
      content[member] = nlohmann::json::parse(dump(workload.at(member)));
  if (content["inputs"].is_object())
    for (auto& [name, input] : content["inputs"].items()) {
      if (!input.is_object()) continue;
      nlohmann::json known;
      for (const char* member : {"type", "value", "tensor_key"})
        if (input.contains(member)) known[member] = input[member];
      input = std::move(known);
    }
  return content;
}

// Compares one definition across both datasets.
class DefinitionComparer {
 public:
  DefinitionComparer(const Dataset& dataset, const fs::path& other, const FetchBlobs& fetch)
      : dataset_(dataset), other_(other), fetch_(fetch) {}

  Result<DefinitionComparison> run(const Definition& definition,
                                   const std::vector<StoredWorkload>& ours) {
    DefinitionComparison result{definition.name, definition.op_type};
    CW_TRY(result.state, state(definition));
    CW_TRY(const auto theirs, read_stored_workloads(other_, definition));
    result.others = theirs.size();
    std::map<std::string_view, const Json*> their_ids;
    std::set<std::string> our_ids;
    for (const StoredWorkload& workload : theirs) their_ids.emplace(workload.id, &workload.json);

    std::set<std::string> new_axes;
    for (const StoredWorkload& workload : ours)
      if (our_ids.insert(workload.id).second && !their_ids.contains(workload.id))
        new_axes.insert(axes_text(workload.json));
    CW_TRY(const Index index, index_like(definition, theirs, our_ids, new_axes));

    our_ids.clear();
    for (const StoredWorkload& workload : ours) {
      if (!our_ids.insert(workload.id).second) continue;
      if (const auto same = their_ids.find(workload.id); same != their_ids.end()) {
        if (content_of(*same->second).dump() != content_of(workload.json).dump())
          return fail("conflict",
                      "workload {} of {} has other axes or inputs there; validate both sides",
                      workload.id, definition.name);
        ++result.known;
        continue;
      }
      const std::string axes = axes_text(workload.json);
      if (index.axes.contains(axes)) {
        CW_TRY(const Identified identified, identify(dataset_.root, definition, workload.json));
        if (index.contents.contains(identified.id)) {
          ++result.known;
          continue;
        }
        result.undecided += index.unreadable_axes.contains(axes);
      }
      result.added.push_back(workload.id);
    }
    return result;
  }

 private:
  struct Index {
    std::set<std::string> axes, unreadable_axes, contents;
  };

  // Their workloads that may be one of ours under another id.
  Result<Index> index_like(const Definition& definition, const std::vector<StoredWorkload>& theirs,
                           const std::set<std::string>& our_ids,
                           const std::set<std::string>& axes) {
    Index index;
    std::vector<const StoredWorkload*> alike;
    std::set<std::string> blobs;

    // Only workloads with the same axes as one of ours can be equal to it.
    for (const StoredWorkload& workload : theirs) {
      if (our_ids.contains(workload.id) || !axes.contains(axes_text(workload.json))) continue;
      alike.push_back(&workload);
      for (const std::string& path :
           blob_paths(workload.json))  // paths that leave the dataset cannot be read
        if (!fs::path(path).is_absolute() && *fs::path(path).begin() != "..") blobs.insert(path);
    }

    // Their content decides; if a blob cannot be read, the axes must do.
    if (!blobs.empty()) CW_CHECK(fetch_({blobs.begin(), blobs.end()}));
    for (const StoredWorkload* workload : alike) {
      const std::string text = axes_text(workload->json);
      index.axes.insert(text);
      if (const auto identified = identify(other_, definition, workload->json))
        index.contents.insert(identified->id);
      else
        index.unreadable_axes.insert(text);
    }
    return index;
  }

  Result<DefinitionState> state(const Definition& definition) const {
    const auto theirs = load_definition(other_ / Dataset::definition_file(other_, definition));
    if (!theirs && theirs.error().code == "not_found") return DefinitionState::missing;
    if (!theirs) return tl::unexpected(theirs.error());
    return meaning(*theirs) == meaning(definition) ? DefinitionState::same
                                                   : DefinitionState::differs;
  }

  const Dataset& dataset_;
  const fs::path& other_;
  const FetchBlobs& fetch_;
};

}  // namespace

Result<std::vector<DefinitionComparison>> compare(const Dataset& dataset, const fs::path& other,
                                                  const FetchBlobs& fetch) {
  std::error_code error;
  if (!fs::is_directory(other, error))
    return fail("not_found", "{}: no such folder", other.string());
  std::vector<DefinitionComparison> result;
  DefinitionComparer comparer(dataset, other, fetch);
  for (const Definition& definition : dataset.definitions) {
    CW_TRY(const auto ours, read_stored_workloads(dataset.root, definition));
    if (ours.empty()) continue;
    CW_TRY(auto compared, comparer.run(definition, ours));
    result.push_back(std::move(compared));
  }
  return result;
}

}  // namespace cw
