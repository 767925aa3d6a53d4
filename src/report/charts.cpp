#include "report/charts.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <map>

#include <fmt/format.h>

#include "base/console.h"

namespace cw {
namespace {

// In SVG units: the page scales a chart to the width of its column.
constexpr double width = 420, height = 250;
constexpr double left = 64, right = 14, top = 10, bottom = 40;
constexpr double plot_width = width - left - right, plot_height = height - top - bottom;
constexpr std::size_t max_ticks = 7;

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text)
    result += c == '<' ? "&lt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
  return result;
}

std::string svg(double w, double h, const std::string& label, const std::string& content) {
  return fmt::format("<svg viewBox=\"0 0 {:g} {:g}\" role=\"img\" aria-label=\"{}\">{}</svg>", w, h,
                     escaped(label), content);
}

std::string text(double x, double y, const std::string& anchor, const std::string& content) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>", x, y, anchor,
                     escaped(content));
}

// 1,024; 16k; 2.1M
std::string compact(double value) {
  if (value >= 1e9) return fmt::format("{:.3g}G", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.3g}M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:.3g}k", value / 1e3);
  if (value == std::floor(value))
    return with_separators(static_cast<std::uint64_t>(std::max(value, 0.0)));
  return fmt::format("{:.3g}", value);
}

// Values from 0 up in log2, where 0 has its own position before 1.
class LogScale {
 public:
  LogScale(std::uint64_t min, std::uint64_t max) {
    low_ = std::floor(position(min));
    high_ = std::max(std::ceil(position(max)), low_ + 1);
  }
  // Inset a little, so that points on the edges are visible.
  double fraction(std::uint64_t value) const {
    return 0.04 + 0.92 * (position(value) - low_) / (high_ - low_);
  }
  std::vector<std::uint64_t> ticks() const {
    const auto count = static_cast<std::size_t>(high_ - low_) + 1;
    const std::size_t step = (count + max_ticks - 1) / max_ticks;
    std::vector<std::uint64_t> result;
    for (std::size_t i = 0; i < count; i += step) {
      const double exponent = low_ + static_cast<double>(i);
      result.push_back(
          exponent < 0 ? 0 : std::uint64_t{1} << static_cast<unsigned>(std::min(exponent, 62.0)));
    }
    return result;
  }

 private:
  static double position(std::uint64_t value) {
    return value == 0 ? -1 : std::log2(static_cast<double>(value));
  }
  double low_, high_;
};

std::string frame() {
  return fmt::format("<path class=\"frame\" d=\"M{0} {1}V{2}H{3}\"/>", left, top, top + plot_height,
                     left + plot_width);
}

std::string x_ticks(const LogScale& scale, const std::string& name) {
  std::string result;
  for (const std::uint64_t tick : scale.ticks()) {
    const double x = left + scale.fraction(tick) * plot_width;
    result += fmt::format("<path class=\"grid\" d=\"M{:.1f} {}v{}\"/>", x, top, plot_height);
    result += text(x, top + plot_height + 14, "middle", compact(static_cast<double>(tick)));
  }
  return result + text(left + plot_width / 2, height - 6, "middle", name + " (log)");
}

std::string y_ticks(const LogScale& scale) {
  std::string result;
  for (const std::uint64_t tick : scale.ticks()) {
    const double y = top + (1 - scale.fraction(tick)) * plot_height;
    result += fmt::format("<path class=\"grid\" d=\"M{} {:.1f}h{}\"/>", left, y, plot_width);
    result += text(left - 6, y + 4, "end", compact(static_cast<double>(tick)));
  }
  return result;
}

std::string y_name(const std::string& name) {
  return fmt::format(
      "<text transform=\"translate(15 {:.1f}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
      top + plot_height / 2, escaped(name + " (log)"));
}

}  // namespace

std::string scatter_chart(const std::string& x_name, const std::string& y_label,
                          const std::vector<ScatterPoint>& points) {
  struct Spot {
    std::size_t count = 0;
    ScatterPoint example;
  };

  const auto at_least_0 = [](std::int64_t value) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(value, 0));
  };

  std::uint64_t x_low = ~std::uint64_t{0}, x_high = 0, y_low = x_low, y_high = 0;
  for (const ScatterPoint& point : points) {
    x_low = std::min(x_low, at_least_0(point.x));
    x_high = std::max(x_high, at_least_0(point.x));
    y_low = std::min(y_low, at_least_0(point.y));
    y_high = std::max(y_high, at_least_0(point.y));
  }
  if (points.empty()) return "";

  // Points at the same pixel are drawn as one.
  const LogScale x_scale(x_low, x_high), y_scale(y_low, y_high);
  std::map<std::tuple<bool, int, int>, Spot> spots;  // known first, so that new ones are on top
  for (const ScatterPoint& point : points) {
    const int x =
        static_cast<int>(std::lround(left + x_scale.fraction(at_least_0(point.x)) * plot_width));
    const int y = static_cast<int>(
        std::lround(top + (1 - y_scale.fraction(at_least_0(point.y))) * plot_height));
    Spot& spot = spots[{point.is_new, x, y}];
    const std::uint64_t calls = spot.example.calls + point.calls;
    if (spot.count++ == 0) spot.example = point;
    spot.example.calls = calls;
  }

  // The more calls, the larger the circle.
  std::string content = x_ticks(x_scale, x_name) + y_ticks(y_scale) + y_name(y_label) + frame();
  for (const auto& [key, spot] : spots) {
    const auto& [is_new, x, y] = key;
    const double radius = std::min(
        2.5 + 0.6 * std::log2(static_cast<double>(std::max<std::uint64_t>(spot.example.calls, 1))),
        9.0);
    content += fmt::format(
        "<circle class=\"{}\" cx=\"{}\" cy=\"{}\" r=\"{:.1f}\"><title>{} {}, {} {}: {}for {} "
        "calls</title></circle>",
        is_new ? "new" : "known", x, y, radius, escaped(x_name), spot.example.x, escaped(y_label),
        spot.example.y, spot.count > 1 ? fmt::format("{} workloads, ", spot.count) : "",
        spot.example.calls);
  }
  return svg(width, height, fmt::format("{} against {}", x_name, y_label), content);
}

std::string bar_chart(const std::string& name,
                      const std::vector<std::pair<std::string, std::uint64_t>>& bars) {
  std::uint64_t max = 1;
  for (const auto& [label, count] : bars) max = std::max(max, count);
  const double step = plot_width / static_cast<double>(std::max<std::size_t>(bars.size(), 1));

  std::string content = text(left - 6, top + 10, "end", compact(static_cast<double>(max))) +
                        text(left - 6, top + plot_height, "end", "0") +
                        text(left + plot_width / 2, height - 6, "middle", name);

  // At most ten labels.
  const std::size_t every = (bars.size() + 9) / 10;
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const double h = static_cast<double>(bars[i].second) / static_cast<double>(max) * plot_height;
    const double x = left + step * static_cast<double>(i);
    content += fmt::format(
        "<rect class=\"bar\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" "
        "height=\"{:.1f}\"><title>{}: {}</title></rect>",
        x + step * 0.08, top + plot_height - h, step * 0.84, h, escaped(bars[i].first),
        with_separators(bars[i].second));
    if (i % every == 0)
      content += text(x + step / 2, top + plot_height + 14, "middle",
                      bars[i].first.substr(0, bars[i].first.find(' ')));
  }
  return svg(width, height, name, content + frame());
}

std::string rank_chart(std::vector<std::uint64_t> calls) {
  if (calls.empty()) return "";
  std::ranges::sort(calls, std::greater<>());

  // At most 400 steps, however many workloads.
  const LogScale scale(std::max<std::uint64_t>(calls.back(), 1),
                       std::max<std::uint64_t>(calls.front(), 1));
  std::string path;
  const std::size_t stride = (calls.size() + 399) / 400;
  const double step = plot_width / static_cast<double>(calls.size());
  for (std::size_t i = 0; i < calls.size(); i += stride) {
    const double y = top + (1 - scale.fraction(std::max<std::uint64_t>(calls[i], 1))) * plot_height;
    path += fmt::format("{}{:.1f} {:.1f}H{:.1f}", i == 0 ? "M" : "L",
                        left + step * static_cast<double>(i), y,
                        left + step * static_cast<double>(std::min(i + stride, calls.size())));
  }

  return svg(
      width, height, "frequency of the workloads",
      y_ticks(scale) + y_name("calls") +
          text(
              left + plot_width / 2, height - 6, "middle",
              fmt::format("{} workloads, the most frequent first", with_separators(calls.size()))) +
          frame() +
          fmt::format("<path class=\"line\" d=\"{}\"><title>from {} times to {}</title></path>",
                      path, with_separators(calls.front()), with_separators(calls.back())));
}

std::string funnel_chart(const std::vector<std::pair<std::string, std::uint64_t>>& amounts) {
  constexpr double row = 22, label = 90, number = 80;
  double max = 1;
  for (const auto& [name, amount] : amounts)
    max = std::max(max, std::log2(static_cast<double>(amount) + 1));
  std::string content;
  double y = 2;
  for (const auto& [name, amount] : amounts) {
    const double w = std::log2(static_cast<double>(amount) + 1) / max * (width - label - number);
    content +=
        text(label - 6, y + 14, "end", name) +
        fmt::format("<rect class=\"bar\" x=\"{}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\"/>",
                    label, y + 2, w, row - 6) +
        text(label + w + 6, y + 14, "start", with_separators(amount));
    y += row;
  }
  return svg(width, y + 14, "seen and kept",
             content + text(label, y + 10, "start", "bars in log scale"));
}

std::string line_chart(const std::string& name, const std::string& unit,
                       const std::vector<std::pair<double, double>>& points) {
  constexpr double h = 130, base = 100, ceiling = 22;
  if (points.size() < 2) return "";
  double max = 0, end = points.back().first, begin = points.front().first;
  for (const auto& [x, y] : points) max = std::max(max, y);
  if (end <= begin) return "";
  const double scale = max > 0 ? max : 1;
  std::string path;
  for (const auto& [x, y] : points)
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L",
                        left + (x - begin) / (end - begin) * plot_width,
                        base - y / scale * (base - ceiling));
  return svg(width, h, name,
             text(left, 13, "start", fmt::format("{}: at most {}{}", name, compact(max), unit)) +
                 fmt::format("<path class=\"frame\" d=\"M{0} {1}V{2}H{3}\"/>", left, ceiling, base,
                             left + plot_width) +
                 text(left, base + 15, "start", fmt::format("{:.0f} s", begin)) +
                 text(left + plot_width, base + 15, "end", fmt::format("{:.0f} s", end)) +
                 fmt::format("<path class=\"line\" d=\"{}\"/>", path));
}

}  // namespace cw
