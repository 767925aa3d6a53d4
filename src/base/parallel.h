// Tasks on several threads, any of which can fail.
#pragma once

#include <cstddef>
#include <functional>

#include "base/result.h"

namespace cw {

using ParallelTask = std::function<Result<void>(std::size_t index)>;

/// Runs tasks 0 to count - 1 on TBB's threads, in any order, and returns once none is running.
///
/// Returns the error of the lowest index that fails, whichever failed first: tasks below a failed
/// one still run, those above it are not started.
Result<void> run_in_parallel(std::size_t count, const ParallelTask& task);

/// The same on at most `threads` dedicated threads, for tasks that wait more than they compute.
Result<void> run_on_threads(std::size_t count, std::size_t threads, const ParallelTask& task);

}  // namespace cw
