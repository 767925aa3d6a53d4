// Which requests of a run were sent, and which were answered in full: written to the file before
// anything else happens, so that a run killed at any time sends exactly what was not done.
//
// A request is identified by its number, its position in the order of the prompts. The file has one
// line per event, "+17" when it is sent and "=17" when it is done; half a line at the end is left
// by a kill. The page cache outlives the process, so nothing is flushed.
#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

#include "base/file.h"

namespace cw {

class RequestLog {
 public:
  /// Creates the file, or continues it. Error codes: "request_log_malformed", and those of reading
  /// and writing.
  static Result<RequestLog> open(const std::filesystem::path& path);

  bool is_done(std::size_t request) const { return state(request) == State::done; }
  /// How many are done, in all runs.
  std::size_t done() const { return done_; }
  /// How many were in flight when a run ended and were sent again, over all runs.
  std::size_t sent_twice() const { return sent_twice_; }

  // Called in sequence; write errors are reported by error().
  void note_sent(std::size_t request);
  void note_done(std::size_t request);
  /// Why the log is incomplete; empty if it is not.
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
