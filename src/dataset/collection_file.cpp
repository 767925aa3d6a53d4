#include "dataset/collection_file.h"

#include <fstream>
#include <tuple>

namespace cw {
namespace {

constexpr int deepest = 64;

// Whether `other` is the one to keep.
bool is_preferred(const Json& other, const Json& value, const char* count) {
  return std::tuple(unsigned_member(other, count), dump(other)) > std::tuple(unsigned_member(value, count), dump(value));
}

}  // namespace

Result<std::vector<CollectionSection>> read_collection(const std::filesystem::path& root, const VisitSeen& visit) {
  const std::filesystem::path path = root / collection_file;
  std::vector<CollectionSection> sections;
  std::ifstream stream(path, std::ios::binary);
  if (!stream) {
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) return sections;
    return fail("unreadable", "cannot read {}", path.string());
  }
  const auto invalid = [&path] {
    return fail("collection_invalid", "{}: not a collection.json of this tool", path.string());
  };
  // Items are handed on and dropped as they end; depth and keys say where the parser is.
  std::vector<std::string> keys(8);
  std::size_t section = ~std::size_t{0};
  bool is_too_deep = false;
  const auto filter = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > deepest) {
      is_too_deep = true;
      return false;
    }
    if (event == Json::parse_event_t::key && depth < 8) keys[static_cast<std::size_t>(depth)] = parsed.get<std::string>();
    if (event == Json::parse_event_t::object_start && depth == 2 && keys[1] == "captures") ++section;
    const bool is_item = event == Json::parse_event_t::object_end && depth == 6 && keys[1] == "captures" &&
                         keys[3] == "definitions" && keys[5] == "workloads";
    if (!is_item) return true;
    visit(section, keys[4], std::move(parsed));
    return false;
  };
  Json file = Json::parse(stream, filter, /*allow_exceptions=*/false);
  if (file.is_discarded() || is_too_deep || !file.is_object() || !file.contains("captures") ||
      !file["captures"].is_array())
    return invalid();
  for (Json& head : file["captures"]) {
    if (!head.is_object() || string_member(head, "id").empty()) return invalid();
    CollectionSection one;
    if (const auto found = head.find("definitions"); found != head.end()) {
      if (!found->is_object()) return invalid();
      for (auto& [name, definition] : found->items()) {
        if (!definition.is_object()) return invalid();
        definition.erase("workloads");
        one.definitions[name] = std::move(definition);
      }
      head.erase("definitions");
    }
    one.head = std::move(head);
    sections.push_back(std::move(one));
  }
  return sections;
}

void join(CollectionSection& section, const CollectionSection& other) {
  if (is_preferred(other.head, section.head, "calls")) section.head = other.head;
  for (const auto& [name, definition] : other.definitions) {
    const auto [known, is_new] = section.definitions.emplace(name, definition);
    if (!is_new && is_preferred(definition, known->second, "calls")) known->second = definition;
  }
}

Json join_seen(Json item, const Json& other) {
  return is_preferred(other, item, "seen") ? other : std::move(item);
}

}  // namespace cw
