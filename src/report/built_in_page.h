// data/report.html, as it was built in.
#pragma once

#include <string_view>

namespace cw {

std::string_view built_in_page();

}  // namespace cw
