// A summary as one HTML page that works by itself: no script, nothing fetched.
#pragma once

#include <string>

#include "report/summary.h"

namespace cw {

/// `title`: of the page, e.g. the dataset's folder. The template is data/report.html.
std::string to_html(const Summary& summary, const std::string& title);

}  // namespace cw
