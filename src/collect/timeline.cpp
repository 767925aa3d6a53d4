#include "collect/timeline.h"

#include <cmath>

namespace cw {

void Timeline::add(const TimelineSample& sample) {
  if (sample.seconds < next_) return;
  samples_.push_back(sample);
  if (samples_.size() == most_samples) {
    for (std::size_t i = 0; 2 * i < samples_.size(); ++i) samples_[i] = samples_[2 * i];
    samples_.resize(most_samples / 2);
    distance_ *= 2;
  }
  next_ = sample.seconds + distance_;
}

Json Timeline::to_json() const {
  Json samples = Json::array();
  for (const TimelineSample& sample : samples_)
    samples.push_back({std::round(sample.seconds * 1000) / 1000, sample.requests,
                       sample.output_tokens, sample.calls, sample.disk_bytes, sample.under_way});
  return {{"columns", {"s", "requests", "output_tokens", "calls", "disk_bytes", "under_way"}},
          {"samples", std::move(samples)}};
}

}  // namespace cw
