// A source of calls. Behind this interface, nothing else knows whether they were dumped or
// recorded.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/hash.h"
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

/// What is known of an entry without reading it.
struct Sighting {
  std::uint32_t function = 0;  ///< Capture::function_name()
  WrapperId wrapper;           ///< of a capture that knows_identities(); else `self` is 0
  std::uint64_t count = 1;     ///< how many calls it stands for
  Hash128 identity;            ///< Call::identity
};

/// Entries are numbered from 0 in the order in which calls were made (per process; processes are
/// interleaved by time). They come in parts: fetch() adds the next ones, forget() drops those that
/// have been dealt with. Between these two, reading entries is const and thread-safe; values of
/// calls that were read, and places, can be read at any time. A call always has a
/// signature; a format that does not store any makes one of the arguments' names.
class Capture {
 public:
  virtual ~Capture() = default;

  /// Reads on, if there is more for now. Returns whether there was; it may have had no entries.
  virtual bool fetch() { return false; }
  /// Entries before this one are not needed any more; their places still are.
  virtual void forget(std::size_t /*before*/) {}
  /// The number of entries so far, forgotten ones included.
  virtual std::size_t size() const = 0;

  // Of an entry that was not forgotten.

  virtual Sighting sighting(std::size_t index) const = 0;
  /// Of a function's number; several numbers can have the same name.
  virtual const std::string& function_name(std::uint32_t number) const = 0;
  const std::string& function(std::size_t index) const {
    return function_name(sighting(index).function);
  }
  /// Whether sightings have identities, and read() costs next to nothing. Other calls are better
  /// read by several threads.
  virtual bool knows_identities() const { return false; }
  virtual CallPlace place(std::size_t index) const = 0;
  /// Reads the call's record; tensor bytes only if they came along with the headers.
  virtual Result<Call> read(std::size_t index) const = 0;
  /// The call will not be read any more: a capture that deletes what has been processed may do so.
  virtual void release(std::size_t /*index*/) const {}

  // Of any entry, for as long as what was captured exists.

  /// The same call as read() gave.
  virtual Result<Call> read_again(const CallPlace& place) const = 0;
  /// Where the call is kept, for messages.
  virtual std::string location(const CallPlace& place) const = 0;

  /// The same entries from the first on, apart from this one's state; null if this one can be read
  /// from there again itself.
  virtual std::unique_ptr<Capture> from_start() const { return nullptr; }
  /// Calls of this process need not be fetched any more.
  virtual void skip(const WrapperId& /*process*/) {}

  /// Complete when fetch() has nothing to add.
  virtual const std::vector<CaptureDefect>& defects() const = 0;
  /// The name of the capture method that made it.
  virtual const char* kind() const = 0;
  /// Differs if and only if another run was captured; stays the same while the capture grows.
  virtual std::string id() const = 0;
};

}  // namespace cw
