#include "workload/distribution.h"

#include <algorithm>
#include <bit>
#include <compare>
#include <numeric>
#include <set>

namespace cw {
namespace {

// Level 1 keeps `max_bits` leading bits, level `max_bits` keeps one; beyond that, octaves are
// joined.
constexpr int max_bits = 8, max_level = max_bits + 6;

int bits_of(std::int64_t extent) {
  return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(extent)));
}

// Octaves that a level joins, as a power of two.
int octaves_joined(int level) {
  return level - max_bits;
}

std::int64_t min_of_bits(int bits) {
  return bits == 0 ? 0 : std::int64_t{1} << (bits - 1);
}

std::int64_t max_of_bits(int bits) {
  return bits >= 63 ? INT64_MAX : (std::int64_t{1} << bits) - 1;
}

// A non-negative number that fits; otherwise nothing.
std::optional<std::int64_t> to_count(const Json& json) {
  if (!json.is_number_integer()) return {};
  if (json.is_number_unsigned() && json.get<std::uint64_t>() > INT64_MAX) return {};
  const auto number = json.get<std::int64_t>();
  return number < 0 ? std::nullopt : std::optional(number);
}

// An unknown extent matches any other.
int distance(const std::vector<int>& left, const std::vector<int>& right) {
  int sum = 0;
  for (std::size_t i = 0; i < std::min(left.size(), right.size()); ++i)
    if (left[i] >= 0 && right[i] >= 0) sum += std::abs(left[i] - right[i]);
  return sum;
}

__extension__ typedef unsigned __int128 Wide;

std::uint64_t weight_of(const Representative& representative) {
  return std::max<std::uint64_t>(representative.seen, 1);
}

// `Number` must hold the product of the calls and the sum of the weights.
template <typename Number>
void share_as(std::uint64_t calls, Number sum, const std::vector<std::size_t>& members,
              const std::vector<Representative>& representatives,
              std::vector<std::uint64_t>& shares) {
  std::uint64_t left = calls;
  std::vector<std::pair<Number, std::size_t>> remainders;
  remainders.reserve(members.size());
  for (const std::size_t i : members) {
    const Number scaled = Number{calls} * weight_of(representatives[i]);
    const auto whole = static_cast<std::uint64_t>(scaled / sum);
    shares[i] += whole;
    left -= whole;
    remainders.emplace_back(scaled % sum, i);
  }

  // There are fewer left than members.
  const auto end = remainders.begin() + static_cast<std::ptrdiff_t>(left);
  std::ranges::nth_element(remainders, end, [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  for (auto remainder = remainders.begin(); remainder != end; ++remainder)
    ++shares[remainder->second];
}

// Whole numbers in proportion to weights: what rounding leaves goes to the largest remainders, the
// first on a tie.
void share(std::uint64_t calls, const std::vector<std::size_t>& members,
           const std::vector<Representative>& representatives, std::vector<std::uint64_t>& shares) {
  Wide sum = 0;
  for (const std::size_t i : members) sum += weight_of(representatives[i]);
  if (sum <= UINT64_MAX && sum * calls <= UINT64_MAX)
    share_as(calls, static_cast<std::uint64_t>(sum), members, representatives, shares);
  else
    share_as(calls, sum, members, representatives, shares);
}

}  // namespace

std::vector<int> octaves_of(const Extents& extents) {
  std::vector<int> octaves;
  for (const std::int64_t extent : extents)
    octaves.push_back(extent == unknown_extent ? -1 : bits_of(extent));
  return octaves;
}

std::int64_t Histogram::first_of(std::int64_t extent) const {
  if (level_ == 0 || extent <= 0) return extent;
  const int bits = bits_of(extent);
  if (octaves_joined(level_) > 0)
    return min_of_bits(bits >> octaves_joined(level_) << octaves_joined(level_));
  const int dropped = bits - (max_bits + 1 - level_);
  return dropped <= 0 ? extent : extent >> dropped << dropped;
}

std::int64_t Histogram::last_of(std::int64_t extent) const {
  if (level_ == 0 || extent < 0) return extent;
  const int bits = bits_of(extent);
  const int joined = octaves_joined(level_);
  if (joined > 0) return max_of_bits((((bits >> joined) + 1) << joined) - 1);
  const int dropped = bits - (max_bits + 1 - level_);
  return dropped <= 0 ? extent : first_of(extent) + ((std::int64_t{1} << dropped) - 1);
}

Extents Histogram::cell_of(Extents extents) const {
  for (std::int64_t& extent : extents) extent = first_of(extent);
  return extents;
}

void Histogram::add(const Extents& extents, std::uint64_t calls) {
  cells_[cell_of(extents)] += calls;
  while (cells_.size() > max_ && level_ < max_level) coarsen();
}

void Histogram::coarsen() {
  ++level_;
  std::map<Extents, std::uint64_t> cells;
  for (const auto& [extents, calls] : cells_) cells[cell_of(extents)] += calls;
  cells_ = std::move(cells);
}

void Histogram::join(const Histogram& other) {
  while (level_ < other.level_) coarsen();
  for (const auto& [extents, calls] : other.cells_) add(extents, calls);
}

Histogram Histogram::coarsened(std::size_t max) const {
  Histogram result = *this;
  result.max_ = max;
  while (result.cells_.size() > max && result.level_ < max_level) result.coarsen();
  return result;
}

std::uint64_t Histogram::calls() const {
  return std::accumulate(cells_.begin(), cells_.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const auto& cell) { return sum + cell.second; });
}

Json Histogram::to_json() const {
  Json rows = Json::array();
  for (const auto& [extents, calls] : cells_) {
    Json row = Json::array();
    for (const std::int64_t extent : extents) {
      if (extent == unknown_extent)
        row.push_back(nullptr);
      else if (last_of(extent) == extent)
        row.push_back(extent);
      else
        row.push_back({extent, last_of(extent)});
    }
    row.push_back(calls);
    rows.push_back(std::move(row));
  }
  Json json = {{"calls", std::move(rows)}};
  if (level_ > 0) json["level"] = level_;
  return json;
}

std::optional<Histogram> Histogram::from_json(const Json& json, std::size_t axes, std::size_t max) {
  const auto rows = json.is_object() ? json.find("calls") : json.end();
  if (!json.is_object() || rows == json.end() || !rows->is_array()) return {};
  Histogram result(max);
  result.level_ = static_cast<int>(
      std::min<std::int64_t>(to_count(json.value("level", Json(0))).value_or(0), max_level));
  for (const Json& row : *rows) {
    if (!row.is_array() || row.size() != axes + 1) return {};
    Extents extents;
    for (std::size_t i = 0; i < axes; ++i) {
      const Json& extent = row[i].is_array() && row[i].size() == 2 ? row[i][0] : row[i];
      const auto min = extent.is_null() ? std::optional(unknown_extent) : to_count(extent);
      if (!min) return {};
      extents.push_back(*min);
    }
    const auto calls = to_count(row.back());
    if (!calls) return {};
    result.add(extents, static_cast<std::uint64_t>(*calls));
  }
  return result;
}

Distribution::Distribution(std::vector<std::string> names, std::vector<std::size_t> shape_axes)
    : var_axes(std::move(names)),
      shape(std::move(shape_axes)),
      of_axes(var_axes.size(), Histogram(max_counted)) {}

void Distribution::add_all(std::span<const std::int64_t> extents,
                           std::span<const std::uint64_t> calls) {
  const std::size_t axes = var_axes.size();
  const auto extent = [&](std::size_t i, std::size_t axis) { return extents[i * axes + axis]; };

  // Each axis: equal extents are neighbours when sorted, and are added at once.
  std::vector<std::pair<std::int64_t, std::uint64_t>> column(calls.size());
  for (std::size_t axis = 0; axis < axes; ++axis) {
    for (std::size_t i = 0; i < calls.size(); ++i) column[i] = {extent(i, axis), calls[i]};
    std::ranges::sort(column);
    for (std::size_t i = 0; i < column.size();) {
      const std::int64_t value = column[i].first;
      std::uint64_t sum = 0;
      for (; i < column.size() && column[i].first == value; ++i) sum += column[i].second;
      of_axes[axis].add({value}, sum);
    }
  }

  // Shapes likewise.
  const auto compare = [&](std::uint32_t left, std::uint32_t right) {
    for (const std::size_t axis : shape)
      if (const auto order = extent(left, axis) <=> extent(right, axis); order != 0) return order;
    return std::strong_ordering::equal;
  };
  std::vector<std::uint32_t> order(calls.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::sort(order, [&](auto left, auto right) { return compare(left, right) < 0; });
  for (std::size_t i = 0; i < order.size();) {
    const std::uint32_t first = order[i];
    std::uint64_t sum = 0;
    for (; i < order.size() && compare(first, order[i]) == 0; ++i) sum += calls[order[i]];
    Extents of_shape;
    for (const std::size_t axis : shape) of_shape.push_back(extent(first, axis));
    of_shapes.add(of_shape, sum);
  }
}

Extents Distribution::shape_of(const Extents& extents) const {
  Extents result;
  for (const std::size_t axis : shape) result.push_back(extents[axis]);
  return result;
}

void Distribution::join(const Distribution& other) {
  if (of_shapes.cells().empty()) {
    *this = other;
    return;
  }
  if (var_axes != other.var_axes || shape != other.shape) return;
  for (std::size_t i = 0; i < of_axes.size(); ++i) of_axes[i].join(other.of_axes[i]);
  of_shapes.join(other.of_shapes);
}

Json Distribution::to_json(std::size_t max_shapes, std::size_t max_extents) const {
  Json axes = Json::object(), names = Json::array();
  for (std::size_t i = 0; i < var_axes.size(); ++i)
    axes[var_axes[i]] = of_axes[i].coarsened(max_extents).to_json();
  for (const std::size_t axis : shape) names.push_back(var_axes[axis]);
  Json shapes = of_shapes.coarsened(max_shapes).to_json();
  shapes["axes"] = std::move(names);
  return {{"axes", std::move(axes)}, {"shapes", std::move(shapes)}};
}

std::optional<Distribution> Distribution::from_json(const Json& json) {
  if (!json.is_object() || !json.contains("axes") || !json.contains("shapes")) return {};
  const Json &axes = json.at("axes"), &shapes = json.at("shapes");
  if (!axes.is_object() || !shapes.is_object() || !shapes.contains("axes") ||
      !shapes.at("axes").is_array())
    return {};

  Distribution result;
  for (const auto& [name, histogram] : axes.items()) {
    auto of_axis = Histogram::from_json(histogram, 1, max_counted);
    if (!of_axis) return {};
    result.var_axes.push_back(name);
    result.of_axes.push_back(std::move(*of_axis));
  }

  for (const Json& name : shapes.at("axes")) {
    if (!name.is_string()) return {};
    const auto found = std::ranges::find(result.var_axes, name.get_ref<const std::string&>());
    if (found == result.var_axes.end()) return {};
    result.shape.push_back(static_cast<std::size_t>(found - result.var_axes.begin()));
  }

  auto of_shapes = Histogram::from_json(shapes, result.shape.size(), max_counted);
  if (!of_shapes) return {};
  result.of_shapes = std::move(*of_shapes);
  return result;
}

std::vector<std::uint64_t> share_calls(const Histogram& shapes,
                                       const std::vector<Representative>& representatives) {
  std::vector<std::uint64_t> shares(representatives.size());
  if (representatives.empty()) return shares;

  std::map<Extents, std::vector<std::size_t>> of_cell;
  std::map<std::vector<int>, std::vector<std::size_t>> of_octaves;
  for (std::size_t i = 0; i < representatives.size(); ++i) {
    of_cell[shapes.cell_of(representatives[i].shape)].push_back(i);
    of_octaves[octaves_of(representatives[i].shape)].push_back(i);
  }

  // Calls of a cell without a representative go to the nearest one.
  for (const auto& [cell, calls] : shapes.cells()) {
    if (const auto own = of_cell.find(cell); own != of_cell.end()) {
      share(calls, own->second, representatives, shares);
      continue;
    }
    const std::vector<int> octaves = octaves_of(cell);
    const auto nearest = std::ranges::min_element(of_octaves, [&](const auto& a, const auto& b) {
      return distance(a.first, octaves) < distance(b.first, octaves);
    });
    share(calls, nearest->second, representatives, shares);
  }
  return shares;
}

}  // namespace cw
