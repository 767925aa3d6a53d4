// Writes recordings as an engine under load makes them, by the recorder itself: a decode step is a
// plan with its page table, a run in each of 32 layers and 64 norms.
//
//   bench_make_recordings FOLDER KIND PROCESSES STEPS [RATE]
//
// KIND: buffers     index tensors are buffers of one size, as with CUDA graphs: few call signatures
//       exact       index tensors have the size that is used: a call signature a step
// RATE: calls a second (default: a step in 60 µs). Each process is a file. Equal parameters give
// the same calls.
#include <chrono>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <thread>

#include "support/recorded_engine.h"

namespace cw {
namespace {

constexpr int layers = 32;
constexpr double calls_a_step = 1 + 3 * layers;  // a plan; a run and two norms for each layer
constexpr std::size_t max_batch = 64;

// Sequences that grow by a token a step, and end.
class Batch {
 public:
  explicit Batch(unsigned seed) : random_(seed) {}

  const std::vector<std::int32_t>& step() {
    for (std::int32_t& length : lengths_) ++length;
    std::erase_if(lengths_, [this](std::int32_t) { return random_() % 200 == 0; });
    while (lengths_.size() < 8 || (lengths_.size() < max_batch && random_() % 20 == 0))
      lengths_.push_back(static_cast<std::int32_t>(16 + random_() % 1000));
    return lengths_;
  }

 private:
  std::mt19937 random_;
  std::vector<std::int32_t> lengths_;
};

void record(const std::string& folder, bool has_buffers, unsigned process, std::uint64_t steps,
            std::chrono::nanoseconds a_step) {
  testing::RecordedEngine engine(folder, {}, 64 << 20, 64 << 20);
  Batch batch(process);
  const auto begin = std::chrono::steady_clock::now();
  for (std::uint64_t step = 0; step < steps; ++step) {
    const auto& lengths = batch.step();
    const auto used = static_cast<std::size_t>(std::reduce(lengths.begin(), lengths.end()));
    engine.plan(1, lengths, 0, false, 0, 0, has_buffers ? std::size_t{1} << 17 : used);
    for (int layer = 0; layer < layers; ++layer) {
      engine.norm(static_cast<std::int64_t>(lengths.size()));
      engine.run(1, static_cast<std::int64_t>(lengths.size()));
      engine.norm(static_cast<std::int64_t>(lengths.size()));
    }
    engine.forget_values();
    if (step % 16 == 0) std::this_thread::sleep_until(begin + a_step * step);
  }
  engine.end();
}

}  // namespace
}  // namespace cw

int main(int count, char** words) {
  if (count != 5 && count != 6) {
    std::fprintf(stderr, "usage: %s FOLDER buffers|exact PROCESSES STEPS [RATE]\n", words[0]);
    return 2;
  }
  const bool has_buffers = std::string_view(words[2]) == "buffers";
  // By default so fast that the aggregator's thread gets as much of the processor as the engine's.
  const double seconds = count == 6 ? cw::calls_a_step / std::stod(words[5]) : 60e-6;
  const auto a_step =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(seconds));
  for (unsigned process = 0; process < std::stoul(words[3]); ++process)
    cw::record(words[1], has_buffers, process, std::stoull(words[4]), a_step);
}
