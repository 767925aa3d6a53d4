// Charts as inline SVG: no scripts, no external resources, dark-mode capable, scaled by the page.
// Colours are the page's classes (data/report.html): "new", "known", "bar", "line".
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace cw {

struct ScatterPoint {
  std::int64_t x = 0, y = 0;
  std::uint64_t calls = 0;  ///< calls it stands for; determines its size
  bool is_new = false;
};

/// Both axes in log2 (0 is left of 1). Points that would overlap are drawn as one, with their
/// count.
std::string scatter_chart(const std::string& x_name, const std::string& y_name,
                          const std::vector<ScatterPoint>& points);

/// One labelled bar per bucket.
std::string bar_chart(const std::string& name,
                      const std::vector<std::pair<std::string, std::uint64_t>>& bars);

/// The calls that each workload stands for, most frequent first, on a log scale.
std::string rank_chart(std::vector<std::uint64_t> calls);

/// Amounts below each other as bars on a log scale, with their numbers.
std::string funnel_chart(const std::vector<std::pair<std::string, std::uint64_t>>& amounts);

/// A quantity over time in seconds. `unit` follows the largest value.
std::string line_chart(const std::string& name, const std::string& unit,
                       const std::vector<std::pair<double, double>>& points);

}  // namespace cw
