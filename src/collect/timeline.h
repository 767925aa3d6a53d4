// How a run went, in a few samples: the interval doubles when there are too many.
#pragma once

#include "dataset/collection_records.h"

namespace cw {

class Timeline {
 public:
  /// Cheap to call often; samples that come too early are dropped.
  void add(const TimelineSample& sample);
  /// The last sample, always kept.
  void finish(const TimelineSample& sample) { record_.samples.push_back(sample); }
  const TimelineRecord& record() const { return record_; }

 private:
  static constexpr std::size_t max_samples = 200;
  double distance_ = 0.25, next_ = 0;  ///< seconds
  TimelineRecord record_;
};

}  // namespace cw
