// Host memory that index tensors are copied into before anybody looks at them.
//
// A ring of bytes, given out and taken back in order, and a ring of marks. A job is what one call
// copied: the caller's stream writes the job's number into its mark when the copies are done, and
// the aggregator polls the mark. One producer, one consumer.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "device.h"

namespace cw::recorder {

class Staging {
 public:
  explicit Staging(std::size_t size);
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  /// The memory stays if the device has not finished with it: copies may still be on their way.
  ~Staging();

  // The producer's side.

  /// Bytes for the job that is being made; null when there are not enough.
  std::byte* reserve(std::size_t bytes) noexcept;
  /// Closes the job and returns its number, or 0 when there are too many. It is done when the
  /// device has set its mark, or at once, without a device.
  std::uint64_t commit(Device* device, Device::Stream stream) noexcept;
  /// Attaches the memory to the device; see Device::attach.
  bool attach(Device& device) noexcept;

  // The consumer's side.

  bool is_done(std::uint64_t job) const noexcept;
  /// The consumer has done with a job, or given it up. Jobs are released in the order in which they
  /// were committed.
  void release(std::uint64_t job) noexcept;

 private:
  static constexpr std::size_t max_jobs = 4096;
  std::uint64_t* mark(std::uint64_t job) const noexcept { return marks_ + job % max_jobs; }
  void reclaim() noexcept;

  std::byte* memory_ = nullptr;  ///< marks first, then the ring
  std::uint64_t* marks_ = nullptr;
  std::byte* ring_ = nullptr;
  std::size_t mapped_ = 0, size_ = 0;
  bool is_attached_ = false;

  // Positions grow for ever; modulo size_ they are places in the ring.
  std::uint64_t reserved_ = 0, last_job_ = 0;  ///< the producer's
  /// The consumer's: what the producer may use again.
  std::atomic<std::uint64_t> freed_{0}, first_job_{1};
  std::uint64_t released_ = 0;         ///< the consumer's: the last job it has done with
  std::uint64_t ends_[max_jobs] = {};  ///< of each job, its end in the ring
};

}  // namespace cw::recorder
