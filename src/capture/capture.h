// A source of calls. Behind this interface, nothing else knows whether they were dumped or
// recorded.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "capture/call.h"

namespace cw {

/// When a resumable operation must return.
using Deadline = std::chrono::steady_clock::time_point;

/// Something wrong with the capture as a whole.
struct CaptureDefect {
  std::string code;
  std::string message;      ///< of the first
  std::uint64_t count = 1;  ///< how many of its kind, in one place
};

/// What happens to a dump once nobody needs it any more.
enum class Disposal { keep, remove };

/// Entries are numbered from 0 in the order in which calls were made (per process; processes are
/// interleaved by time). Reading is const and thread-safe. A call always has a signature; a format
/// that does not store any makes one of the arguments' names.
class Capture {
 public:
  virtual ~Capture() = default;
  virtual std::size_t size() const = 0;
  /// Function of entry `index`, from the listing alone, so that unbound calls need not be read.
  virtual const std::string& function(std::size_t index) const = 0;
  /// The process that made call `index`, from the listing alone; `self` is 0.
  virtual WrapperId process(std::size_t index) const = 0;
  /// How many calls entry `index` stands for.
  virtual std::uint64_t count(std::size_t /*index*/) const { return 1; }
  /// Where the call is kept, for messages.
  virtual std::string location(std::size_t index) const = 0;
  /// Reads the call's record; tensor bytes only if they came along with the headers.
  virtual Result<Call> read(std::size_t index) const = 0;
  /// Call `index` will not be read any more: a capture that deletes or forgets what has been
  /// processed may do so.
  virtual void release(std::size_t /*index*/) const {}
  virtual const std::vector<CaptureDefect>& defects() const = 0;
  /// The name of the capture method that made it.
  virtual const char* kind() const = 0;
  /// Differs if and only if another run was captured; stays the same while the capture grows.
  virtual std::string id() const = 0;
};

}  // namespace cw
