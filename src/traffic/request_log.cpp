#include "traffic/request_log.h"

#include <cerrno>
#include <charconv>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

namespace cw {
namespace {

constexpr std::size_t max_requests = 1'000'000'000;  // as --num-prompts
constexpr std::uint64_t max_log = std::uint64_t{16} << 30;

}  // namespace

Result<RequestLog> RequestLog::open(const std::filesystem::path& path) {
  RequestLog log;
  log.name_ = path.string();
  CW_CHECK(make_private_directories(path.parent_path()));
  std::string content;
  if (auto known = read_file(AT_FDCWD, log.name_, max_log))
    content = std::move(*known);
  else if (known.error().code != "not_found")
    return tl::unexpected(known.error());

  // Whole lines only: a line that a killed run had begun is cut off.
  content.resize(content.rfind('\n') + 1);  // npos + 1 is 0
  for (std::size_t begin = 0; begin < content.size();) {
    const std::size_t end = content.find('\n', begin);
    if (!log.take_line(std::string_view(content).substr(begin, end - begin)))
      return fail("request_log_malformed", "{}: not a request log, at byte {}", log.name_, begin);
    begin = end + 1;
  }
  for (State& state : log.states_)
    if (state == State::sent) state = State::sent_before;

  log.file_ = open_private(log.name_, O_WRONLY | O_APPEND | O_NOFOLLOW);
  if (!log.file_ || ::ftruncate(log.file_.get(), static_cast<off_t>(content.size())) != 0)
    return fail("unwritable", "cannot write {}: {}", log.name_, std::strerror(errno));
  return log;
}

RequestLog::State& RequestLog::state_of(std::size_t request) {
  if (request >= states_.size()) states_.resize(request + 1, State::unknown);
  return states_[request];
}

bool RequestLog::take_line(std::string_view line) {
  std::size_t request = 0;
  if (line.size() < 2) return false;
  const auto parsed = std::from_chars(line.data() + 1, line.data() + line.size(), request);
  if (parsed.ec != std::errc() || parsed.ptr != line.data() + line.size() ||
      request >= max_requests)
    return false;
  if (line[0] != '+' && line[0] != '=') return false;

  State& state = state_of(request);
  if (line[0] == '=' && state != State::done) ++done_;
  if (line[0] == '+' && state == State::sent) ++sent_twice_;
  if (state != State::done) state = line[0] == '=' ? State::done : State::sent;
  return true;
}

void RequestLog::append(char event, std::size_t request) {
  if (!error_.empty()) return;
  const auto written = write_fully(file_, fmt::format("{}{}\n", event, request), name_);
  if (!written) error_ = written.error().message;
}

void RequestLog::note_sent(std::size_t request) {
  State& state = state_of(request);
  if (state == State::sent_before) ++sent_twice_;
  if (state != State::done) state = State::sent;
  append('+', request);
}

void RequestLog::note_done(std::size_t request) {
  State& state = state_of(request);
  if (std::exchange(state, State::done) != State::done) ++done_;
  append('=', request);
}

}  // namespace cw
