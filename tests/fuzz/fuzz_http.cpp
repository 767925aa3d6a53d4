// An answer of a server: however its bytes are cut, its status and its body are the same.
#include <cstdlib>
#include <string>
#include <string_view>

#include <sys/socket.h>
#include <unistd.h>

#include "traffic/event_stream.h"
#include "traffic/http.h"

namespace {

constexpr std::size_t max_length = 32 << 10;  // what a socket holds

struct Answer {
  cw::HttpExchange::State state = cw::HttpExchange::State::under_way;
  unsigned status = 0;
  std::string body, rejected;
};

// `step` bytes at a time.
Answer exchange(std::string_view bytes, std::size_t step, bool is_closed) {
  constexpr std::string_view request = "GET / HTTP/1.1\r\n\r\n";
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) std::abort();
  cw::HttpExchange exchange(cw::FileDescriptor(ends[0]), cw::HttpExchange::Connection::fresh);
  cw::FileDescriptor server(ends[1]);
  exchange.start(request);

  Answer answer;
  cw::EventStream events;
  const auto take = [&](std::string_view piece) {
    answer.body += piece;
    events.take(piece);
  };
  const auto is_over = [&] {
    return answer.state != cw::HttpExchange::State::under_way &&
           answer.state != cw::HttpExchange::State::has_more;
  };
  while (!bytes.empty() && !is_over()) {
    const std::string_view piece = bytes.substr(0, step);
    if (::send(server.get(), piece.data(), piece.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(piece.size()))
      std::abort();
    bytes.remove_prefix(piece.size());
    answer.state = exchange.advance(request, false, take);
  }
  if (is_closed && !is_over()) {
    server = {};
    do answer.state = exchange.advance(request, true, take);
    while (answer.state == cw::HttpExchange::State::has_more);
  }
  answer.status = exchange.status();
  answer.rejected = exchange.rejected();
  (void)events.totals();
  return answer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const char* data, std::size_t size) {
  if (size < 2 || size > max_length) return 0;
  const std::size_t step = 1 + static_cast<unsigned char>(data[0]);
  const bool is_closed = (data[1] & 1) != 0;
  const std::string_view bytes(data + 2, size - 2);
  const Answer whole = exchange(bytes, bytes.size() + 1, is_closed),
               pieces = exchange(bytes, step, is_closed);
  // Whether odd HTTP is taken may depend on the cuts (Beast looks for the end of a trailer once);
  // what it says may not.
  using State = cw::HttpExchange::State;
  const bool both_are_done = whole.state == State::done && pieces.state == State::done;
  if (both_are_done && (whole.status != pieces.status || whole.body != pieces.body ||
                        whole.rejected != pieces.rejected))
    std::abort();
  return 0;
}
