// What the recorder asks of an accelerator: copies on the caller's own stream, and marks that can
// be polled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace cw::recorder {

class Device {
 public:
  using Stream = void*;
  virtual ~Device() = default;

  /// Makes host memory reachable for copies and marks; once, with a context current. False: copies
  /// are not possible.
  virtual bool attach(std::byte* memory, std::size_t size) = 0;
  /// Whether work may be put on the stream: not while a graph is captured from it.
  virtual bool is_capturing(Stream stream) = 0;
  /// Puts a copy of `rows` rows from device memory into attached memory on the stream, and returns
  /// at once. `pitch` bytes lie from one row's begin to the next on the device; on the host rows
  /// are dense.
  virtual bool copy(std::byte* to, const void* from, std::size_t row, std::size_t rows,
                    std::size_t pitch, Stream stream) = 0;
  /// Writes `value` to an attached address once all that was put on the stream before is done.
  virtual bool mark(std::uint64_t* to, std::uint64_t value, Stream stream) = 0;
};

/// The CUDA driver that this process has loaded already; null when there is none. Uses the context
/// that is current.
std::unique_ptr<Device> loaded_cuda_driver();

}  // namespace cw::recorder
