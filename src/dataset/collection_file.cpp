#include "dataset/collection_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <tuple>

#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/redact.h"

namespace cw {
namespace {

// The file is rewritten from memory: about 300,000 workloads.
constexpr std::uint64_t max_collection = 128 << 20;
// Of a file's distributions, in bytes of text: about a thousand captures of twenty definitions.
constexpr std::size_t max_distributions_size = 32 << 20;

// Whether `other` is the one to keep: by its count, for definitions then by the workloads kept,
// then by the text.
bool is_preferred(const Json& other, const Json& value, const char* count) {
  const auto rank = [count](const Json& json) {
    return std::tuple(unsigned_member(json, count), unsigned_member(json, "kept"), dump(json));
  };
  return rank(other) > rank(value);
}

// Takes the mark of our own engine, wherever it is; and no secret passes from here into what is
// merged, shown or submitted.
void take_origin(Json& head, CollectionSection& section) {
  section.is_simulated = bool_member(head, "simulated");
  head.erase("simulated");
  if (const auto run = head.find("run"); run != head.end())
    section.is_simulated = section.is_simulated || bool_member(*run, "simulated");
  head = redact(std::move(head));
}

}  // namespace

Json CollectionSection::marked_head() const {
  Json marked = head;
  if (is_simulated) marked["simulated"] = true;
  return marked;
}

Result<void> check_collection(const std::filesystem::path& path, const Json& file) {
  const auto is_right = [](const Json& head) {
    if (!head.is_object() || string_member(head, "id").empty()) return false;
    const auto definitions = head.find("definitions");
    return definitions == head.end() ||
           (definitions->is_object() &&
            std::all_of(definitions->begin(), definitions->end(),
                        [](const Json& definition) { return definition.is_object(); }));
  };
  const bool has_list =
      file.is_object() && file.contains("captures") && file.at("captures").is_array();
  if (has_list && std::all_of(file.at("captures").begin(), file.at("captures").end(), is_right))
    return {};
  return fail("collection_invalid",
              "{}: not a collection.json of this tool, or longer than any it writes; move it away "
              "and run again",
              path.string());
}

Result<std::vector<CollectionSection>> read_collection(const std::filesystem::path& root,
                                                       const VisitSeen& visit) {
  const std::filesystem::path path = root / collection_file;
  std::vector<CollectionSection> sections;
  auto opened = open_for_reading(AT_FDCWD, path.string());
  if (!opened && opened.error().code == "not_found") return sections;
  if (!opened) return tl::unexpected(opened.error());
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> stream(::fdopen(::dup(opened->get()), "r"),
                                                               std::fclose);
  if (!stream) return fail("unreadable", "cannot read {}: {}", path.string(), std::strerror(errno));

  // captures[section].definitions.NAME.workloads[…] and .distribution: passed on and dropped as
  // they end. Distributions past the limit stay in the parsed tree, and count there.
  std::size_t of_distributions = 0;
  std::map<std::pair<std::size_t, std::string>, std::string> distributions;
  const auto filter = [&](const std::vector<JsonPlace>& around, Json& object) {
    if (around.size() < 5 || around[0].key != "captures" || around[2].key != "definitions")
      return true;
    const bool is_item = around.size() == 6 && around[4].key == "workloads";
    const bool is_distribution = around.size() == 5 && around[4].key == "distribution" &&
                                 of_distributions < max_distributions_size;
    if (is_item) visit(around[1].index, around[3].key, std::move(object));
    if (is_distribution) {
      std::string& text = distributions[{around[1].index, around[3].key}];
      text = dump(object);
      of_distributions += text.size() + around[3].key.size();
    }
    return !is_item && !is_distribution;
  };
  auto parsed = parse_json(stream.get(), filter, collection_limits);
  Json file = parsed ? std::move(*parsed) : Json();
  parsed.reset();
  CW_CHECK(check_collection(path, file));
  for (Json& head : file["captures"]) {
    CollectionSection one;
    if (const auto found = head.find("definitions"); found != head.end()) {
      for (auto& [name, definition] : found->items()) {
        definition.erase("workloads");
        one.definitions[name] = {redact(std::move(definition)),
                                 std::move(distributions[{sections.size(), name}])};
      }
      head.erase("definitions");
    }
    take_origin(head, one);
    one.head = std::move(head);
    sections.push_back(std::move(one));
  }
  return sections;
}

Result<Json> known_collection(const std::filesystem::path& root) {
  const std::filesystem::path path = root / collection_file;
  const auto content = read_file(AT_FDCWD, path.string(), max_collection);
  if (!content && content.error().code == "not_found")
    return Json{{"format", 1}, {"captures", Json::array()}};
  if (!content && content.error().code != "too_large") return tl::unexpected(content.error());

  auto known = content ? parse_json(*content, collection_limits) : std::nullopt;
  if (known) {
    CW_CHECK(check_collection(path, *known));
    return std::move(*known);
  }
  // Not this tool's, or too large to hold in memory here.
  CW_CHECK(read_collection(root, [](std::size_t, const std::string&, Json) {}));
  return fail("collection_invalid",
              "{}: holds more than one run can add to; collect into a new folder and merge the two",
              path.string());
}

Json with_section(Json collection, const SectionRecord& section) {
  Json& captures = collection["captures"];
  const auto known = std::ranges::find_if(
      captures, [&section](const Json& other) { return string_member(other, "id") == section.id; });
  if (known != captures.end())
    *known = section.to_json();
  else
    captures.push_back(section.to_json());
  return collection;
}

void join(CollectionSection& section, const CollectionSection& other) {
  section.is_simulated = section.is_simulated || other.is_simulated;
  if (is_preferred(other.head, section.head, "calls")) section.head = other.head;
  for (const auto& [name, definition] : other.definitions) {
    const auto [known, is_new] = section.definitions.emplace(name, definition);
    if (!is_new && is_preferred(definition.head, known->second.head, "calls"))
      known->second = definition;
  }
}

Json join_seen(Json item, Json other) {
  const bool stands_for_any = item.contains("stands_for") || other.contains("stands_for");
  const std::uint64_t stands_for =
      std::max(unsigned_member(item, "stands_for"), unsigned_member(other, "stands_for"));
  item.erase("stands_for");
  other.erase("stands_for");
  if (is_preferred(other, item, "seen")) item = std::move(other);
  if (stands_for_any) item["stands_for"] = stands_for;
  return item;
}

}  // namespace cw
