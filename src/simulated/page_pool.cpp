#include "simulated/page_pool.h"

#include <algorithm>
#include <numeric>
#include <string_view>

#include "base/hash.h"

namespace cw::simulated {

PagePool::PagePool(std::int64_t slots, bool has_prefix_cache)
    : size_(slots), has_prefix_cache_(has_prefix_cache), free_(static_cast<std::size_t>(slots)) {
  std::iota(free_.begin(), free_.end(), std::int64_t{1});
}

std::int64_t PagePool::available() const {
  return static_cast<std::int64_t>(free_.size() + unused_.size() * block);
}

std::uint64_t PagePool::extend(std::uint64_t hash, const std::int32_t* tokens) {
  std::uint64_t content[2] = {
      hash, xxh3_64({reinterpret_cast<const char*>(tokens), block * sizeof(std::int32_t)})};
  return xxh3_64({reinterpret_cast<const char*>(content), sizeof content});
}

std::vector<std::int64_t> PagePool::match(const std::vector<std::int32_t>& tokens) {
  std::vector<std::int64_t> slots;
  if (!has_prefix_cache_) return slots;
  std::uint64_t hash = 0;
  for (std::size_t i = 0; i + block < tokens.size(); i += block) {
    hash = extend(hash, tokens.data() + i);
    const auto found = blocks_.find(hash);
    if (found == blocks_.end()) break;
    if (found->second.users++ == 0) unused_.erase(found->second.place);
    slots.insert(slots.end(), found->second.slots.begin(), found->second.slots.end());
  }
  return slots;
}

void PagePool::evict(std::int64_t wanted) {
  while (static_cast<std::int64_t>(free_.size()) < wanted && !unused_.empty()) {
    const auto found = blocks_.find(unused_.front());
    free_.insert(free_.end(), found->second.slots.begin(), found->second.slots.end());
    blocks_.erase(found);
    unused_.pop_front();
  }
}

bool PagePool::allocate(std::int64_t count, std::vector<std::int64_t>& slots) {
  evict(count);
  if (static_cast<std::int64_t>(free_.size()) < count) return false;
  slots.insert(slots.end(), free_.begin(), free_.begin() + count);
  free_.erase(free_.begin(), free_.begin() + count);
  return true;
}

void PagePool::release(const std::vector<std::int32_t>& tokens,
                       const std::vector<std::int64_t>& slots, std::size_t cached) {
  std::uint64_t hash = 0;
  std::size_t i = 0;
  for (; has_prefix_cache_ && i + block <= std::min(tokens.size(), slots.size()); i += block) {
    hash = extend(hash, tokens.data() + i);

    const auto known = blocks_.find(hash);
    if (i < cached) {  // ours came from here; the last user makes it evictable
      if (known != blocks_.end() && --known->second.users == 0)
        known->second.place = unused_.insert(unused_.end(), hash);
      continue;
    }

    if (known != blocks_.end()) {  // another sequence was first: its slots stay, ours become free
      free_.insert(free_.end(), slots.begin() + static_cast<std::ptrdiff_t>(i),
                   slots.begin() + static_cast<std::ptrdiff_t>(i + block));
      continue;
    }

    // A new block, at first without users: it can be evicted.
    Block added{.slots = {slots.begin() + static_cast<std::ptrdiff_t>(i),
                          slots.begin() + static_cast<std::ptrdiff_t>(i + block)},
                .users = 0,
                .place = unused_.insert(unused_.end(), hash)};
    blocks_.emplace(hash, std::move(added));
  }

  // A partial block is not cached.
  free_.insert(free_.end(), slots.begin() + static_cast<std::ptrdiff_t>(i), slots.end());
}

}  // namespace cw::simulated
