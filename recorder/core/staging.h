// Host memory that index tensors are copied into before they are examined.
//
// A ring buffer of bytes, allocated and freed in order, and a ring of completion marks. A job is
// the copies of one call: the caller's stream writes the job's number into its mark when they are
// done, and the aggregator polls the mark. Single producer, single consumer.
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
  /// Leaks the memory if the device has not finished with it: copies may still be in flight.
  ~Staging();

  // The producer's side.

  /// Allocates bytes for the current job; null if there are not enough.
  std::byte* reserve(std::size_t bytes) noexcept;
  /// Closes the job and returns its number, or 0 if there are too many. It is done when the device
  /// has set its mark; without a device, at once.
  std::uint64_t commit(Device* device, Device::Stream stream) noexcept;
  /// Attaches the memory to the device; see Device::attach.
  bool attach(Device& device) noexcept;

  // The consumer's side.

  bool is_done(std::uint64_t job) const noexcept;
  /// The consumer is done with a job, or has given it up. Jobs are released in the order in which
  /// they were committed.
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

  // Positions only ever grow; modulo size_ they are offsets in the ring.
  std::uint64_t reserved_ = 0, last_job_ = 0;  ///< producer only
  /// Written by the consumer: what the producer may reuse.
  std::atomic<std::uint64_t> freed_{0}, first_job_{1};
  std::uint64_t released_ = 0;         ///< consumer only: the last job released
  std::uint64_t ends_[max_jobs] = {};  ///< each job's end in the ring
};

}  // namespace cw::recorder
