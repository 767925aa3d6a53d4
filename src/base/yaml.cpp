#include "base/yaml.h"

#include <algorithm>

namespace cw {

std::optional<YAML::Node> unknown_field(const YAML::Node& mapping,
                                        std::initializer_list<std::string_view> known) {
  for (const auto& field : mapping)
    if (std::ranges::find(known, field.first.as<std::string>()) == known.end()) return field.first;
  return {};
}

Json to_json(const YAML::Node& node) {
  if (node.IsMap()) {
    Json object = Json::object();
    for (const auto& item : node) object[item.first.as<std::string>()] = to_json(item.second);
    return object;
  }
  if (node.IsSequence()) {
    Json list = Json::array();
    for (const auto& item : node) list.push_back(to_json(item));
    return list;
  }
  std::int64_t integer = 0;
  double real = 0;
  if (YAML::convert<std::int64_t>::decode(node, integer)) return integer;
  if (YAML::convert<double>::decode(node, real)) return real;
  // The core schema's two; plain, as a text in quotes has the tag "!".
  if (node.Tag() != "!" && (node.Scalar() == "true" || node.Scalar() == "false"))
    return node.Scalar() == "true";
  return node.IsNull() ? Json() : Json(node.Scalar());
}

}  // namespace cw
