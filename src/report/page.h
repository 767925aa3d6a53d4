// A summary as one self-contained HTML page: no scripts, no external resources.
#pragma once

#include <string>

#include "report/summary.h"

namespace cw {

/// `title`: the page's title, e.g. the dataset's folder. The template is data/report.html.
std::string to_html(const Summary& summary, const std::string& title);

}  // namespace cw
