// A server-sent event stream (WHATWG HTML, 9.2), as far as inference servers use it: "data:" lines,
// "[DONE]" at the end.
//
// Events are counted as they arrive and only the last is kept: with SGLang it carries the totals,
// with the OpenAI APIs the usage, and parsing every event of a thousand streams would cost more
// than everything else. A server that does not stream answers with one JSON object, which counts as
// the one and last event.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"

namespace cw {

/// Token counts as reported by the server; otherwise one per event.
struct StreamTotals {
  std::uint64_t input = 0, output = 0;
  std::string error;  ///< "server_error", "garbage"; empty: none
};

class EventStream {
 public:
  /// Takes the next bytes, split at any point.
  void take(std::string_view bytes);
  /// Everything has been received.
  void finish();

  std::size_t events() const { return events_; }
  /// Something was not an event, or was too long: everything after it is ignored.
  bool is_garbage() const { return is_garbage_; }
  /// The stream ended as it should.
  bool is_done() const { return is_done_; }
  /// It was not a stream but a single object.
  bool is_plain() const { return is_plain_; }
  const std::string& last() const { return last_; }
  /// From the last event.
  StreamTotals totals() const;

 private:
  static constexpr std::size_t max_line = 1 << 20;

  void line(std::string_view text);
  void give_up();

  std::string line_, last_;
  std::size_t events_ = 0;
  bool has_begun_ = false, is_plain_ = false, is_garbage_ = false, is_done_ = false;
};

}  // namespace cw
