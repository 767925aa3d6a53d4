#include "base/parallel.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <tbb/parallel_for.h>

namespace cw {
namespace {

// The error with the lowest index so far.
class FirstError {
 public:
  void run(std::size_t index, const ParallelTask& task) {
    if (index > index_) return;
    Result<void> done = task(index);
    if (done) return;

    const std::lock_guard lock(mutex_);
    if (index > index_) return;
    index_ = index;
    error_ = std::move(done.error());
  }

  Result<void> outcome() {
    if (error_) return tl::unexpected(std::move(*error_));
    return {};
  }

 private:
  std::atomic<std::size_t> index_ = std::numeric_limits<std::size_t>::max();
  std::mutex mutex_;
  std::optional<Error> error_;
};

}  // namespace

Result<void> run_in_parallel(std::size_t count, const ParallelTask& task) {
  FirstError first;
  tbb::parallel_for(std::size_t{0}, count, [&](std::size_t i) { first.run(i, task); });
  return first.outcome();
}

Result<void> run_on_threads(std::size_t count, std::size_t threads, const ParallelTask& task) {
  FirstError first;
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < count; i = next++) first.run(i, task);
  };

  // The calling thread is one of the workers.
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < std::min(threads, count); ++i) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  return first.outcome();
}

}  // namespace cw
