// How a run went, in few samples: their distance doubles when there are too many.
#pragma once

#include "dataset/collection_records.h"

namespace cw {

class Timeline {
 public:
  /// Cheap to call often; a sample that comes too early is left out.
  void add(const TimelineSample& sample);
  /// The last one: always kept.
  void finish(const TimelineSample& sample) { record_.samples.push_back(sample); }
  const TimelineRecord& record() const { return record_; }

 private:
  static constexpr std::size_t max_samples = 200;
  double distance_ = 0.25, next_ = 0;  ///< seconds
  TimelineRecord record_;
};

}  // namespace cw
