// Charts as inline SVG: no script, nothing fetched, readable in the dark, scaled by the page.
// Colours are the page's classes (data/report.html): "new", "known", "bar", "line".
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace cw {

struct ScatterPoint {
  std::int64_t x = 0, y = 0;
  std::uint64_t calls = 0;  ///< that it stands for; gives its size
  bool is_new = false;
};

/// Both axes in log2 (0 stands left of 1). Points that would hide each other are drawn as one, with
/// their number.
std::string scatter_chart(const std::string& x_name, const std::string& y_name,
                          const std::vector<ScatterPoint>& points);

/// One bar a bucket, labelled.
std::string bar_chart(const std::string& name,
                      const std::vector<std::pair<std::string, std::uint64_t>>& bars);

/// The calls that each stands for, the most frequent first, in log scale.
std::string rank_chart(std::vector<std::uint64_t> calls);

/// Amounts of one kind below each other, in log scale, with their numbers.
std::string funnel_chart(const std::vector<std::pair<std::string, std::uint64_t>>& amounts);

/// A quantity over seconds. `unit` stands behind the largest value.
std::string line_chart(const std::string& name, const std::string& unit,
                       const std::vector<std::pair<double, double>>& points);

}  // namespace cw
