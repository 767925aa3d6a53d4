// Data files are written in YAML; their content is passed on as JSON.
#pragma once

#include <yaml-cpp/yaml.h>

#include "base/json.h"

namespace cw {

/// Scalars that parse as a number become one; all others are strings.
Json to_json(const YAML::Node& node);

}  // namespace cw
