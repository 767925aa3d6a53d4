#include "workload/selection.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>

namespace cw {
namespace {

using Cell = std::vector<int>;
using Cells = std::map<Cell, std::vector<std::size_t>>;

Cells cut(const std::vector<Candidate>& candidates, double width) {
  Cells cells;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    Cell cell;
    for (const std::int64_t extent : candidates[i].var_axes)
      cell.push_back(
          static_cast<int>(std::floor(std::log2(static_cast<double>(extent) + 1.0) / width)));
    cells[cell].push_back(i);
  }
  return cells;
}

}  // namespace

std::vector<std::size_t> select_diverse(const std::vector<Candidate>& candidates, std::size_t max) {
  std::vector<std::size_t> chosen(candidates.size());
  std::iota(chosen.begin(), chosen.end(), 0);
  if (candidates.size() <= max) return chosen;
  chosen.clear();

  // From a quarter octave up to one cell for everything (2^64 has 64 octaves).
  Cells cells;
  for (double width = 0.25; width <= 128; width *= 2) {
    cells = cut(candidates, width);
    if (cells.size() <= max) break;
  }

  // The most frequent candidate of a cell comes first, and the busiest cell before the others.
  struct Queue {
    std::uint64_t calls = 0;
    std::vector<std::size_t> members;
  };
  std::vector<Queue> queues;
  for (auto& [cell, members] : cells) {
    Queue queue{.members = std::move(members)};
    std::ranges::stable_sort(queue.members, std::greater(),
                             [&candidates](std::size_t i) { return candidates[i].stands_for; });
    for (const std::size_t i : queue.members) queue.calls += candidates[i].stands_for;
    queues.push_back(std::move(queue));
  }
  std::ranges::stable_sort(queues, std::greater(), &Queue::calls);

  // Each cell gives one per round.
  for (std::size_t round = 0; chosen.size() < max; ++round)
    for (const Queue& queue : queues)
      if (round < queue.members.size() && chosen.size() < max)
        chosen.push_back(queue.members[round]);
  std::ranges::sort(chosen);
  return chosen;
}

}  // namespace cw
