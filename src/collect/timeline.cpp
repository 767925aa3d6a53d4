#include "collect/timeline.h"

namespace cw {

void Timeline::add(const TimelineSample& sample) {
  if (sample.seconds < next_) return;
  auto& samples = record_.samples;
  samples.push_back(sample);
  if (samples.size() == max_samples) {
    for (std::size_t i = 0; 2 * i < samples.size(); ++i) samples[i] = samples[2 * i];
    samples.resize(max_samples / 2);
    distance_ *= 2;
  }
  next_ = sample.seconds + distance_;
}

}  // namespace cw
