// data/report.html, as embedded in this binary.
#pragma once

#include <string_view>

namespace cw {

std::string_view built_in_page();

}  // namespace cw
