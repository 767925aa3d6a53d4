// How often calls had which extents, over all calls of a definition: those whose index tensors were
// not kept, too.
//
// Counts are exact while there are few different extents. Past a limit, neighbours are put
// together: of an extent only the leading bits count, as in HdrHistogram (hdrhistogram.org), one
// bit fewer at each level; below one bit, octaves are joined in pairs, fours and so on. Every level
// is made of whole cells of the one before, so that the result depends neither on the order of
// calls nor on which histograms were joined first.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "tensor/shape.h"

namespace cw {

/// Extents of some axes, in an order that the owner knows; unknown_extent where a call does not
/// show one.
using Extents = std::vector<std::int64_t>;

/// Calls by the extents of one axis or several.
class Histogram {
 public:
  /// With more than `max` cells, which are 64 or more, it becomes coarser.
  explicit Histogram(std::size_t max) : max_(max) {}

  void add(const Extents& extents, std::uint64_t calls);
  void join(const Histogram& other);
  /// The same calls in at most `max` cells.
  Histogram coarsened(std::size_t max) const;

  std::uint64_t calls() const;
  /// By the least extents of each cell; those of an exact one are its own.
  const std::map<Extents, std::uint64_t>& cells() const { return cells_; }
  /// The least and the greatest extent of the cell that an extent is in.
  std::int64_t first_of(std::int64_t extent) const;
  std::int64_t last_of(std::int64_t extent) const;
  Extents cell_of(Extents extents) const;

  /// {"level": … [0], "calls": [[EXTENT…, CALLS]…]}; an extent is a number, [least, greatest], or
  /// null where it is not known.
  Json to_json() const;
  /// What to_json() made, for so many axes. Nothing when it is something else.
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
  /// What a collection is counted with, and what is written of it.
  static constexpr std::size_t max_counted = 16'384, max_written_shapes = 128,
                               max_written_extents = 256;

  std::vector<std::string> var_axes;  ///< in the definition's order
  /// Which of them make a shape: not the sizes of pools, which values tell.
  std::vector<std::size_t> shape;
  std::vector<Histogram> of_axes;  ///< as var_axes
  Histogram of_shapes{max_counted};

  Distribution() = default;
  Distribution(std::vector<std::string> names, std::vector<std::size_t> shape_axes);

  /// `extents` as var_axes.
  void add(const Extents& extents, std::uint64_t calls);
  Extents shape_of(const Extents& extents) const;
  /// Of the same definition.
  void join(const Distribution& other);

  /// {"axes": {NAME: histogram}, "shapes": {"axes": [NAME…], "level", "calls"}}, in at most so many
  /// cells.
  Json to_json(std::size_t max_shapes = max_written_shapes,
               std::size_t max_extents = max_written_extents) const;
  /// What to_json() made. Nothing when it is something else.
  static std::optional<Distribution> from_json(const Json& json);
};

/// A workload that stands for calls: its shape, and how many calls had its very content.
struct Representative {
  Extents shape;
  std::uint64_t seen = 0;
};

/// How many calls each stands for; they add up to all calls, unless there is none. The calls of a
/// shape are shared among those of that shape, as often as each was seen; those of a shape without
/// any among those in its octaves, or in the nearest octaves where there are some.
std::vector<std::uint64_t> share_calls(const Histogram& shapes,
                                       const std::vector<Representative>& representatives);

}  // namespace cw
