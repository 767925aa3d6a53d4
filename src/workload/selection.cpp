#include "workload/selection.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace cw {
namespace {

using Cell = std::vector<int>;
using Cells = std::map<Cell, std::vector<std::size_t>>;

Cells cut(const std::vector<Entry>& entries, double width) {
  Cells cells;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    Cell cell;
    for (const std::int64_t extent : entries[i].var_axes)
      cell.push_back(
          static_cast<int>(std::floor(std::log2(static_cast<double>(extent) + 1.0) / width)));
    cells[cell].push_back(i);
  }
  return cells;
}

}  // namespace

std::vector<std::size_t> select_diverse(const std::vector<Entry>& entries, std::size_t most) {
  std::vector<std::size_t> chosen(entries.size());
  std::iota(chosen.begin(), chosen.end(), 0);
  if (entries.size() <= most) return chosen;
  chosen.clear();

  // From a quarter octave up to one cell for everything (2^64 has 64 octaves).
  Cells cells;
  for (double width = 0.25; width <= 128; width *= 2) {
    cells = cut(entries, width);
    if (cells.size() <= most) break;
  }
  struct Queue {
    std::uint64_t calls = 0;
    std::vector<std::size_t> entries;
  };
  std::vector<Queue> queues;
  for (auto& [cell, members] : cells) {
    Queue queue{.entries = std::move(members)};
    std::stable_sort(queue.entries.begin(), queue.entries.end(),
                     [&entries](std::size_t a, std::size_t b) {
                       return entries[a].stands_for > entries[b].stands_for;
                     });
    for (const std::size_t i : queue.entries) queue.calls += entries[i].stands_for;
    queues.push_back(std::move(queue));
  }
  std::stable_sort(queues.begin(), queues.end(),
                   [](const Queue& a, const Queue& b) { return a.calls > b.calls; });
  for (std::size_t round = 0; chosen.size() < most; ++round)
    for (const Queue& queue : queues)
      if (round < queue.entries.size() && chosen.size() < most)
        chosen.push_back(queue.entries[round]);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace cw
