// skills/collect-workloads/SKILL.md, as it was when this program was built.
#pragma once

#include <string_view>

namespace cw::cli {

std::string_view built_in_skill();

}  // namespace cw::cli
