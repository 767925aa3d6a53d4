// How often each combination of extents occurred, over all calls of a definition, including those
// whose index tensors were not kept.
//
// Counts are exact while there are few different extents. Beyond a limit, neighbours are merged:
// only the leading bits of an extent count, as in HdrHistogram (hdrhistogram.org), one bit fewer at
// each level; below one bit, octaves are joined in pairs, fours and so on. Every level consists of
// whole cells of the previous one, so that the result depends neither on the order of calls nor on
// which histograms were joined first.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "tensor/shape.h"

namespace cw {

/// Extents of some axes, in an order known to the owner; unknown_extent where a call does not show
/// one.
using Extents = std::vector<std::int64_t>;

/// The octave of each extent, its number of bits; -1 for an unknown one.
std::vector<int> octaves_of(const Extents& extents);

/// Calls by the extents of one axis or several.
class Histogram {
 public:
  /// Becomes coarser beyond `max` cells; `max` must be at least 64.
  explicit Histogram(std::size_t max) : max_(max) {}

  void add(const Extents& extents, std::uint64_t calls);
  void join(const Histogram& other);
  /// The same calls in at most `max` cells.
  Histogram coarsened(std::size_t max) const;

  std::uint64_t calls() const;
  /// Keyed by the smallest extents of each cell; an exact cell's are its own.
  const std::map<Extents, std::uint64_t>& cells() const { return cells_; }
  /// The smallest and the largest extent of the cell that contains an extent.
  std::int64_t first_of(std::int64_t extent) const;
  std::int64_t last_of(std::int64_t extent) const;
  Extents cell_of(Extents extents) const;

  /// {"level": … [0], "calls": [[EXTENT…, CALLS]…]}; an extent is a number, [smallest, largest], or
  /// null if unknown.
  Json to_json() const;
  /// The reverse of to_json(), for `axes` axes. Nothing if the input is invalid.
  static std::optional<Histogram> from_json(const Json& json, std::size_t axes, std::size_t max);

  bool operator==(const Histogram& other) const {
    return level_ == other.level_ && cells_ == other.cells_;
  }

 private:
  void coarsen();

  std::size_t max_;
  int level_ = 0;  ///< 0: exact
  std::map<Extents, std::uint64_t> cells_;
};

/// The distribution of a definition's calls.
struct Distribution {
  /// Cell limits while counting a collection, and when writing it.
  static constexpr std::size_t max_counted = 16'384, max_written_shapes = 128,
                               max_written_extents = 256;

  std::vector<std::string> var_axes;  ///< in the definition's order
  /// Which of them form a shape: not pool sizes, which depend on values.
  std::vector<std::size_t> shape;
  std::vector<Histogram> of_axes;  ///< parallel to var_axes
  Histogram of_shapes{max_counted};

  Distribution() = default;
  Distribution(std::vector<std::string> names, std::vector<std::size_t> shape_axes);

  /// `extents` is parallel to var_axes.
  void add(const Extents& extents, std::uint64_t calls) { add_all(extents, {&calls, 1}); }
  /// The same for many in less time, as extents of an axis repeat: `extents` holds one entry's
  /// extents after another's, and `calls` has a number for each.
  void add_all(std::span<const std::int64_t> extents, std::span<const std::uint64_t> calls);
  Extents shape_of(const Extents& extents) const;
  /// `other` must be of the same definition.
  void join(const Distribution& other);

  /// {"axes": {NAME: histogram}, "shapes": {"axes": [NAME…], "level", "calls"}}, in at most that
  /// many cells.
  Json to_json(std::size_t max_shapes = max_written_shapes,
               std::size_t max_extents = max_written_extents) const;
  /// The reverse of to_json(). Nothing if the input is invalid.
  static std::optional<Distribution> from_json(const Json& json);
};

/// A workload that stands for calls: its shape, and how many calls had exactly its content.
struct Representative {
  Extents shape;
  std::uint64_t seen = 0;
};

/// How many calls each representative stands for; they add up to all calls, unless there is none.
/// The calls of a shape are divided among its representatives in proportion to how often each was
/// seen; those of a shape without any, among those in its octaves, or in the nearest octaves that
/// have some.
std::vector<std::uint64_t> share_calls(const Histogram& shapes,
                                       const std::vector<Representative>& representatives);

}  // namespace cw
