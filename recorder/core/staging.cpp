#include "staging.h"

#include <sys/mman.h>

namespace cw::recorder {
namespace {

constexpr std::size_t alignment = 64;

std::uint64_t aligned(std::uint64_t position) {
  return (position + alignment - 1) & ~std::uint64_t{alignment - 1};
}

}  // namespace

Staging::Staging(std::size_t size) : size_(aligned(size)) {
  const std::size_t marks = aligned(max_jobs * sizeof(std::uint64_t));
  mapped_ = marks + size_;
  void* memory =
      ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {  // nothing can be reserved
    size_ = mapped_ = 0;
    return;
  }
  memory_ = static_cast<std::byte*>(memory);
  marks_ = reinterpret_cast<std::uint64_t*>(memory_);
  ring_ = memory_ + marks;
}

Staging::~Staging() {
  if (mapped_ > 0 && !is_attached_) ::munmap(memory_, mapped_);
}

bool Staging::attach(Device& device) noexcept {
  is_attached_ = is_attached_ || (mapped_ > 0 && device.attach(memory_, mapped_));
  return is_attached_;
}

std::byte* Staging::reserve(std::size_t bytes) noexcept {
  if (bytes == 0 || bytes > size_) return nullptr;
  // A job that could not be closed would leave copies in flight into memory that is handed out
  // again.
  if (last_job_ + 1 - first_job_.load(std::memory_order_acquire) >= max_jobs) return nullptr;
  std::uint64_t begin = aligned(reserved_);
  if (begin % size_ + bytes > size_) begin += size_ - begin % size_;  // not across the ring's end
  if (begin + bytes - freed_.load(std::memory_order_acquire) > size_) return nullptr;
  reserved_ = begin + bytes;
  return ring_ + begin % size_;
}

std::uint64_t Staging::commit(Device* device, Device::Stream stream) noexcept {
  const std::uint64_t job = last_job_ + 1;
  if (job - first_job_.load(std::memory_order_acquire) >= max_jobs) return 0;
  ends_[job % max_jobs] = reserved_;
  last_job_ = job;
  // If the mark cannot be set, the job is never done: what was put on the stream may still arrive.
  if (device != nullptr)
    device->mark(mark(job), job, stream);
  else
    std::atomic_ref(*mark(job)).store(job, std::memory_order_release);
  return job;
}

bool Staging::is_done(std::uint64_t job) const noexcept {
  return std::atomic_ref(*mark(job)).load(std::memory_order_acquire) == job;
}

void Staging::release(std::uint64_t job) noexcept {
  released_ = job;
  reclaim();
}

void Staging::reclaim() noexcept {
  std::uint64_t first = first_job_.load(std::memory_order_relaxed);
  for (; first <= released_ && is_done(first); ++first)
    freed_.store(ends_[first % max_jobs], std::memory_order_release);
  first_job_.store(first, std::memory_order_release);
}

}  // namespace cw::recorder
