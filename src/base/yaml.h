// Data files are written in YAML; what is read from them is handed on as JSON.
#pragma once

#include <yaml-cpp/yaml.h>

#include "base/json.h"

namespace cw {

/// Scalars that read as a number become one; all others are strings.
Json to_json(const YAML::Node& node);

}  // namespace cw
