// The queue from the engine's threads to the aggregator's: byte strings, never blocking the
// producer.
//
// Single producer, single consumer; several producers take turns under a lock that they hold anyway
// (the GIL). Chunks are linked, so that a burst grows the queue instead of blocking; past
// `max_bytes` a push is refused.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <utility>

namespace cw::recorder {

class Queue {
 public:
  explicit Queue(std::size_t max_bytes)
      : max_bytes_(max_bytes), head_(std::make_unique<Chunk>()), tail_(head_.get()) {}
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  ~Queue() {
    // One by one: a chunk that owned the rest would free it recursively.
    while (head_) head_ = std::move(head_->next);
  }

  enum class Limit { holds, ignored };

  /// The producer's side. Returns false and does nothing if the queue is full or out of memory.
  bool push(std::span<const std::byte> item, Limit limit = Limit::holds) noexcept {
    const std::size_t size = sizeof(Size) + padded(item.size());
    if (size > chunk_size || (limit == Limit::holds && pending() + size > max_bytes_)) return false;
    if (tail_->used.load(std::memory_order_relaxed) + size > chunk_size) {
      std::unique_ptr<Chunk> chunk(new (std::nothrow) Chunk);
      if (!chunk) return false;
      Chunk* const last = std::exchange(tail_, chunk.get());
      last->next = std::move(chunk);
      last->has_next.store(true, std::memory_order_release);
    }
    const std::size_t used = tail_->used.load(std::memory_order_relaxed);
    const auto length = static_cast<Size>(item.size());
    std::memcpy(tail_->bytes + used, &length, sizeof length);
    if (!item.empty()) std::memcpy(tail_->bytes + used + sizeof length, item.data(), item.size());
    pushed_.store(pushed_.load(std::memory_order_relaxed) + size, std::memory_order_relaxed);
    tail_->used.store(used + size, std::memory_order_release);
    return true;
  }

  /// The consumer's side: the oldest item, valid until pop(); empty if there is none.
  std::span<const std::byte> front() noexcept {
    if (read_ == head_->used.load(std::memory_order_acquire)) {
      if (!head_->has_next.load(std::memory_order_acquire)) return {};
      // Whatever the producer wrote here before linking the next chunk is visible now.
      if (read_ == head_->used.load(std::memory_order_acquire)) {
        head_ = std::move(head_->next);
        read_ = 0;
        if (head_->used.load(std::memory_order_acquire) == 0) return {};
      }
    }
    Size length;
    std::memcpy(&length, head_->bytes + read_, sizeof length);
    return {head_->bytes + read_ + sizeof length, length};
  }

  void pop() noexcept {
    const std::size_t size = sizeof(Size) + padded(front().size());
    read_ += size;
    popped_.store(popped_.load(std::memory_order_relaxed) + size, std::memory_order_release);
  }

  /// Bytes in the queue; approximate on either side.
  std::size_t pending() const noexcept {
    const std::size_t popped = popped_.load(std::memory_order_acquire);
    return pushed_.load(std::memory_order_relaxed) - popped;
  }

 private:
  using Size = std::uint64_t;  // keeps items 8-byte aligned
  static constexpr std::size_t chunk_size = 256 * 1024;
  struct Chunk {
    std::atomic<std::size_t> used{0};
    std::unique_ptr<Chunk> next;  ///< the producer's until has_next, then the consumer's
    std::atomic<bool> has_next{false};
    alignas(8) std::byte bytes[chunk_size];
  };
  static std::size_t padded(std::size_t size) { return (size + 7) & ~std::size_t{7}; }

  const std::size_t max_bytes_;
  std::unique_ptr<Chunk> head_;  ///< the consumer's
  std::size_t read_ = 0;
  Chunk* tail_;  ///< the producer's
  std::atomic<std::size_t> pushed_{0}, popped_{0};
};

}  // namespace cw::recorder
