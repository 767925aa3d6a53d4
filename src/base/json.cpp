#include "base/json.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace cw {
namespace {

// Builds a tree from the parser's events.
class Builder {
 public:
  Builder(const JsonLimits& limits, const JsonFilter* filter) : limits_(limits), filter_(filter) {}

  Json take() { return std::move(root_); }

  bool null() { return add(nullptr) != nullptr; }
  bool boolean(bool value) { return add(value) != nullptr; }
  bool number_integer(std::int64_t value) { return add(value) != nullptr; }
  bool number_unsigned(std::uint64_t value) { return add(value) != nullptr; }
  bool number_float(double value, const std::string&) { return add(value) != nullptr; }
  bool string(std::string& value) { return count_text(value) && add(std::move(value)) != nullptr; }
  bool binary(Json::binary_t&) { return false; }  // not in JSON
  bool start_object(std::size_t) { return open(Json::value_t::object); }
  bool start_array(std::size_t) { return open(Json::value_t::array); }
  bool key(std::string& value) {
    if (!count_text(value)) return false;
    place().key = std::move(value);
    return true;
  }
  bool end_object() {
    Json& object = *open_.back();
    remove_doubles(object);
    open_.pop_back();
    path_.pop_back();
    const std::size_t before = begun_at_.back();
    begun_at_.pop_back();
    if (filter_ == nullptr || (*filter_)(path_, object)) return close();
    drop_last();
    items_ = before;
    return close();
  }
  bool end_array() {
    begun_at_.pop_back();
    open_.pop_back();
    path_.pop_back();
    return close();
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) {
    return false;
  }

 private:
  // Where the next value of the innermost open container goes.
  JsonPlace& place() { return path_.back(); }

  bool count_text(const std::string& text) {
    constexpr std::size_t of_an_item = 64;
    items_ += text.size() / of_an_item;
    return items_ <= limits_.items;
  }

  // Null past the limit. Each open container is the last item of its parent, so none of them moves.
  Json* add(Json value) {
    if (++items_ > limits_.items) return nullptr;
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (!parent.is_object()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    auto& members = parent.get_ref<Json::object_t&>();
    members.emplace_back(place().key, std::move(value));
    return &members.back().second;
  }

  bool open(Json::value_t type) {
    const std::size_t before = items_;
    Json* const added = open_.size() < limits_.depth ? add(Json(type)) : nullptr;
    if (added == nullptr) return false;
    begun_at_.push_back(before);
    open_.push_back(added);
    path_.emplace_back();
    return true;
  }

  bool close() {
    if (!path_.empty()) ++path_.back().index;
    return true;
  }

  // What was just closed is the last item of its parent.
  void drop_last() {
    if (open_.empty()) {
      root_ = nullptr;
    } else if (open_.back()->is_object()) {
      open_.back()->get_ref<Json::object_t&>().pop_back();
    } else {
      open_.back()->get_ref<Json::array_t&>().pop_back();
    }
  }

  static void remove_doubles(Json& object) {
    constexpr std::size_t few = 16;
    auto& members = object.get_ref<Json::object_t&>();
    bool has_doubles = false;
    std::unordered_set<std::string_view> keys;
    for (auto member = members.begin(); member != members.end() && !has_doubles; ++member)
      has_doubles = members.size() > few
                        ? !keys.insert(member->first).second
                        : std::any_of(members.begin(), member, [&](const auto& other) {
                            return other.first == member->first;
                          });
    if (!has_doubles) return;

    // Each key keeps its first position and its last value.
    std::unordered_map<std::string_view, Json*> last;
    for (auto& [key, value] : members) last.insert_or_assign(key, &value);
    keys.clear();
    Json kept = Json::object();
    for (const auto& [key, value] : members)
      if (keys.insert(key).second)
        kept.get_ref<Json::object_t&>().emplace_back(key, std::move(*last.at(key)));
    object = std::move(kept);
  }

  const JsonLimits& limits_;
  const JsonFilter* filter_;
  Json root_;
  std::vector<Json*> open_;
  std::vector<JsonPlace> path_;        ///< one per open container
  std::vector<std::size_t> begun_at_;  ///< per open container: the items before it
  std::size_t items_ = 0;              ///< kept so far
};

}  // namespace

std::optional<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  Builder builder(limits, nullptr);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return std::nullopt;
  return builder.take();
}

std::optional<Json> parse_json(std::FILE* file, const JsonFilter& filter,
                               const JsonLimits& limits) {
  Builder builder(limits, &filter);
  if (!Json::sax_parse(file, &builder)) return std::nullopt;
  return builder.take();
}

std::string without_python_numbers(std::string_view text) {
  std::string out;
  bool is_in_string = false;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (is_in_string && c == '\\' && i + 1 < text.size()) {
      out += text.substr(i, 2);
      i += 2;
      continue;
    }

    if (c == '"') is_in_string = !is_in_string;
    std::size_t length = 0;
    for (const std::string_view number : {"NaN", "-Infinity", "Infinity"})
      if (!is_in_string && length == 0 && text.substr(i).starts_with(number))
        length = number.size();

    if (length > 0) {
      out += "null";
      i += length;
    } else {
      out += c;
      ++i;
    }
  }
  return out;
}

std::string string_member(const Json& object, const char* name) {
  if (!object.is_object()) return {};
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::uint64_t unsigned_member(const Json& object, const char* name) {
  if (!object.is_object()) return 0;
  const auto found = object.find(name);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

bool bool_member(const Json& object, const char* name) {
  if (!object.is_object()) return false;
  const auto found = object.find(name);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

std::string brief(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  std::string text = dump(value);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

std::string plain(const Json& value) {
  return value.is_string() ? value.get<std::string>() : brief(value);
}

std::string dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}
std::string dump_indented(const Json& value) {
  return value.dump(1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace cw
