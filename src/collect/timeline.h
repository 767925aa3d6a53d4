// How a run went, in few samples: their distance doubles when there are too many.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"

namespace cw {

struct TimelineSample {
  double seconds = 0;  ///< since the engine was started
  std::uint64_t requests = 0, output_tokens = 0, calls = 0, disk_bytes = 0, under_way = 0;
};

class Timeline {
 public:
  /// Cheap to call often; a sample that comes too early is left out.
  void add(const TimelineSample& sample);
  /// The last one: always kept.
  void finish(const TimelineSample& sample) { samples_.push_back(sample); }
  /// {"columns": ["s", "requests", …], "samples": [[0.2, 0, …], …]}
  Json to_json() const;

 private:
  static constexpr std::size_t most_samples = 200;
  double distance_ = 0.25, next_ = 0;
  std::vector<TimelineSample> samples_;
};

}  // namespace cw
