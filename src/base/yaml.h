// Data files are written in YAML; their content is passed on as JSON.
#pragma once

#include <initializer_list>
#include <optional>
#include <string_view>

#include <yaml-cpp/yaml.h>

#include "base/json.h"

namespace cw {

/// The name, as a node with a place, of a mapping's first field that is none of these; nothing if
/// there is none.
std::optional<YAML::Node> unknown_field(const YAML::Node& mapping,
                                        std::initializer_list<std::string_view> known);

/// Scalars that parse as a number become one; all others are strings.
Json to_json(const YAML::Node& node);

}  // namespace cw
