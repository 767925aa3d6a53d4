// Which requests of a run were sent, and which were answered in full: on the disk before anything
// else goes on, so that a run that was killed at any moment sends what was not done, and no other.
//
// A request is known by its number, which is its place in the order of the prompts. The file has a
// line an event, "+17" when it is sent and "=17" when it is done; half a line at the end is a
// kill's. The page cache outlives the process, so nothing is flushed.
#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

#include "base/file.h"

namespace cw {

class RequestLog {
 public:
  /// Makes the file, or goes on with it. Error codes: "request_log_malformed", and those of reading
  /// and writing.
  static Result<RequestLog> open(const std::filesystem::path& path);

  bool is_done(std::size_t request) const { return state(request) == State::done; }
  /// How many are done, in all runs.
  std::size_t done() const { return done_; }
  /// How many were under way when a run ended and were sent again, in all runs.
  std::size_t sent_twice() const { return sent_twice_; }

  // One request after the other; errors of writing are told by error().
  void note_sent(std::size_t request);
  void note_done(std::size_t request);
  /// Why the log is not whole; empty when it is.
  const std::string& error() const { return error_; }

 private:
  enum class State : unsigned char { unknown, sent_before, sent, done };
  State state(std::size_t request) const {
    return request < states_.size() ? states_[request] : State::unknown;
  }
  State& state_of(std::size_t request);
  bool take_line(std::string_view line);
  void append(char event, std::size_t request);

  std::string name_, error_;
  FileDescriptor file_;
  std::vector<State> states_;
  std::size_t done_ = 0, sent_twice_ = 0;
};

}  // namespace cw
