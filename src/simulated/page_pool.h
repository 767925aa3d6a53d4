// The engine's KV pool: slots of one token, with a prefix cache over them.
//
// A sequence's slots come from a free list that is refilled in the order in which slots were given
// back, so that the page tables of a busy engine are as scattered as real ones. With the prefix
// cache on, the slots of a finished sequence stay, found again by a rolling hash over the tokens up
// to each block of 16, until the least recently used are needed.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <unordered_map>
#include <vector>

namespace cw::simulated {

class PagePool {
 public:
  /// Slots 1 to `slots`; slot 0 is where engines let padding write.
  PagePool(std::int64_t slots, bool has_prefix_cache);

  std::int64_t available() const;  ///< free now or after eviction
  std::int64_t size() const { return size_; }

  /// Slots of the longest cached prefix of `tokens`, in whole blocks and never all of them; locked
  /// until they are given back.
  std::vector<std::int64_t> match(const std::vector<std::int32_t>& tokens);
  /// Appends `count` free slots to `slots`; false, and nothing done, when there are not so many.
  bool allocate(std::int64_t count, std::vector<std::int64_t>& slots);
  /// Gives a sequence's slots back; `tokens` is what they hold, and `cached` how many came from
  /// match().
  void release(const std::vector<std::int32_t>& tokens, const std::vector<std::int64_t>& slots,
               std::size_t cached);

 private:
  static constexpr std::size_t block = 16;
  struct Block {
    std::vector<std::int64_t> slots;
    int users = 0;
    std::list<std::uint64_t>::iterator place;  ///< in unused_, when it has no users
  };
  static std::uint64_t extend(std::uint64_t hash, const std::int32_t* tokens);
  void evict(std::int64_t wanted);

  std::int64_t size_;
  bool has_prefix_cache_;
  std::deque<std::int64_t> free_;
  std::unordered_map<std::uint64_t, Block> blocks_;
  std::list<std::uint64_t> unused_;  ///< least recently used first
};

}  // namespace cw::simulated
