#include "traffic/event_stream.h"

#include <algorithm>

namespace cw {
namespace {

std::uint64_t count(const Json& usage, const char* name, std::uint64_t otherwise) {
  const auto found = usage.find(name);
  constexpr std::uint64_t max = 1u << 30;  // per request: sums of them do not wrap
  const bool is_count =
      found != usage.end() && found->is_number_unsigned() && found->get<std::uint64_t>() <= max;
  return is_count ? found->get<std::uint64_t>() : otherwise;
}

}  // namespace

void EventStream::take(std::string_view bytes) {
  if (!has_begun_) {
    bytes.remove_prefix(std::min(bytes.find_first_not_of(" \t\r\n"), bytes.size()));
    has_begun_ = !bytes.empty();
    is_plain_ = bytes.starts_with('{');
  }

  // One JSON object: there are no lines to wait for.
  if (is_plain_ && !is_garbage_) {
    line_ += bytes;
    if (line_.size() > max_line) give_up();
    return;
  }

  // Whole lines are taken from the buffer without a copy; only the rest is kept.
  while (!is_garbage_) {
    const std::size_t end = bytes.find('\n');
    if (end == std::string_view::npos) {
      line_ += bytes;
      if (line_.size() > max_line) give_up();
      return;
    }
    if (line_.size() + end > max_line) return give_up();
    if (line_.empty()) {
      line(bytes.substr(0, end));
    } else {
      line_ += bytes.substr(0, end);
      line(line_);
      line_.clear();
    }
    bytes.remove_prefix(end + 1);
  }
}

void EventStream::finish() {
  if (!is_plain_ || is_garbage_) return;
  last_ = std::move(line_);
  events_ = 1;
  is_done_ = true;
}

void EventStream::give_up() {
  is_garbage_ = true;
  line_ = std::string();
}

StreamTotals EventStream::totals() const {
  StreamTotals totals{.input = 0, .output = events_, .error = {}};
  const auto json = parse_json(last_);
  if (!json || !json->is_object()) {
    totals.error = "garbage";
    return totals;
  }
  if (json->contains("error") && !(*json)["error"].is_null()) totals.error = "server_error";
  const Json* usage = nullptr;
  for (const char* name : {"meta_info", "usage"})
    if (json->contains(name) && (*json)[name].is_object()) usage = &(*json)[name];
  if (usage != nullptr) {
    totals.input = count(*usage, "prompt_tokens", 0);
    totals.output = count(*usage, "completion_tokens", events_);
  }
  return totals;
}

void EventStream::line(std::string_view text) {
  if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
  if (text.empty() || text.starts_with(":") || text.starts_with("event:") ||
      text.starts_with("id:"))
    return;
  if (!text.starts_with("data:")) {
    is_garbage_ = true;
    return;
  }
  text.remove_prefix(text.starts_with("data: ") ? 6 : 5);
  if (text == "[DONE]") {
    is_done_ = true;
    return;
  }
  ++events_;
  last_.assign(text);
}

}  // namespace cw
