// What the recorder needs from an accelerator: copies on the caller's own stream, and completion
// marks that can be polled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace cw::recorder {

class Device {
 public:
  using Stream = void*;
  virtual ~Device() = default;

  /// Makes host memory accessible to copies and marks; called once, with a current context. False
  /// if copies are not possible.
  virtual bool attach(std::byte* memory, std::size_t size) = 0;
  /// Whether a graph is being captured from the stream: then no work may be enqueued on it.
  virtual bool is_capturing(Stream stream) = 0;
  /// Enqueues a copy of `rows` rows from device memory to attached memory on the stream, and
  /// returns at once. On the device, rows start `pitch` bytes apart; on the host they are dense.
  virtual bool copy(std::byte* to, const void* from, std::size_t row, std::size_t rows,
                    std::size_t pitch, Stream stream) = 0;
  /// Writes `value` to an attached address once all work enqueued on the stream before it is done.
  virtual bool mark(std::uint64_t* to, std::uint64_t value, Stream stream) = 0;
};

/// The CUDA driver that this process has already loaded; null if there is none. Uses the current
/// context.
std::unique_ptr<Device> loaded_cuda_driver();

}  // namespace cw::recorder
