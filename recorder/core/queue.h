// The way from the engine's threads to the aggregator's: a queue of byte strings that never blocks
// the writer.
//
// One producer and one consumer at a time; several producers take turns under a lock that they hold
// anyway (the GIL). Chunks are linked, so that a burst grows the queue instead of waiting; past
// `most_bytes` a push is refused.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstring>
#include <new>
#include <span>
#include <utility>

namespace cw::recorder {

class Queue {
 public:
  explicit Queue(std::size_t most_bytes)
      : most_bytes_(most_bytes), head_(new Chunk), tail_(head_) {}
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  ~Queue() {
    for (Chunk* chunk = head_; chunk != nullptr;) delete std::exchange(chunk, chunk->next.load());
  }

  enum class Limit { holds, ignored };

  /// The producer's side. False, and nothing happens, when the queue is full or memory is.
  bool push(std::span<const std::byte> item, Limit limit = Limit::holds) noexcept {
    const std::size_t size = sizeof(Size) + padded(item.size());
    if (size > chunk_size || (limit == Limit::holds && pending() + size > most_bytes_))
      return false;
    if (tail_->used.load(std::memory_order_relaxed) + size > chunk_size) {
      Chunk* chunk = new (std::nothrow) Chunk;
      if (chunk == nullptr) return false;
      tail_->next.store(chunk, std::memory_order_release);
      tail_ = chunk;
    }
    const std::size_t used = tail_->used.load(std::memory_order_relaxed);
    const auto length = static_cast<Size>(item.size());
    std::memcpy(tail_->bytes + used, &length, sizeof length);
    if (!item.empty()) std::memcpy(tail_->bytes + used + sizeof length, item.data(), item.size());
    pushed_.store(pushed_.load(std::memory_order_relaxed) + size, std::memory_order_relaxed);
    tail_->used.store(used + size, std::memory_order_release);
    return true;
  }

  /// The consumer's side: the oldest item, valid until pop(); empty when there is none.
  std::span<const std::byte> front() noexcept {
    if (read_ == head_->used.load(std::memory_order_acquire)) {
      Chunk* next = head_->next.load(std::memory_order_acquire);
      if (next == nullptr) return {};
      // What the producer put here before it linked the next chunk is visible now.
      if (read_ == head_->used.load(std::memory_order_acquire)) {
        delete std::exchange(head_, next);
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

  /// Bytes that wait; exact for neither side.
  std::size_t pending() const noexcept {
    const std::size_t popped = popped_.load(std::memory_order_acquire);
    return pushed_.load(std::memory_order_relaxed) - popped;
  }

 private:
  using Size = std::uint64_t;  // items stay aligned to eight bytes
  static constexpr std::size_t chunk_size = 256 * 1024;
  struct Chunk {
    std::atomic<std::size_t> used{0};
    std::atomic<Chunk*> next{nullptr};
    alignas(8) std::byte bytes[chunk_size];
  };
  static std::size_t padded(std::size_t size) { return (size + 7) & ~std::size_t{7}; }

  const std::size_t most_bytes_;
  Chunk* head_;  ///< the consumer's
  std::size_t read_ = 0;
  Chunk* tail_;  ///< the producer's
  std::atomic<std::size_t> pushed_{0}, popped_{0};
};

}  // namespace cw::recorder
