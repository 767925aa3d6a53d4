#include "traffic/records.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>

#include "base/file.h"

namespace cw {
namespace {

constexpr std::size_t max_record = 8 << 20;
constexpr std::size_t max_columns = 1000;
constexpr std::string_view spaces = " \t\r\n";

// Members of an object in which publishers usually put a file's records.
constexpr std::array<std::string_view, 16> wrappers{
    "data",    "rows",    "items", "records", "examples",   "instances", "prompts", "samples",
    "entries", "results", "train", "test",    "validation", "questions", "dataset", "requests"};

// Tracks brackets and strings: as much of JSON as it takes to find the end of a value.
class Scanner {
 public:
  // False when the value has not begun or is not over.
  bool take(char c) {
    if (is_escaped_) {
      is_escaped_ = false;
    } else if (is_in_string_) {
      is_escaped_ = c == '\\';
      is_in_string_ = c != '"';
      return !is_in_string_ && open_.empty();
    } else if (c == '"') {
      is_in_string_ = true;
    } else if (c == '{' || c == '[') {
      open_ += c;
    } else if ((c == '}' || c == ']') && !open_.empty()) {
      open_.pop_back();
      return open_.empty();
    }
    return false;
  }
  bool has_begun() const { return is_in_string_ || !open_.empty(); }
  bool is_in_string() const { return is_in_string_; }
  char innermost() const { return open_.empty() ? '\0' : open_.back(); }

 private:
  std::string open_;
  bool is_in_string_ = false, is_escaped_ = false;
};

std::size_t skip_spaces(std::string_view text, std::size_t at) {
  return std::min(text.find_first_not_of(spaces, std::min(at, text.size())), text.size());
}

// Whether each line is its own record, judging by the first line and how the next begins.
bool has_record_a_line(std::string_view text, std::size_t first) {
  const std::size_t newline = text.find('\n', first);
  if (newline == std::string_view::npos) return false;
  const std::size_t next = skip_spaces(text, newline);
  Scanner scanner;
  std::size_t ends = 0;
  for (std::size_t i = first; i < newline; ++i)
    if (scanner.take(text[i]) && ++ends == 1 && skip_spaces(text, i + 1) < newline) return false;
  if (!scanner.has_begun()) return ends == 1 && next < text.size();
  // A truncated line: no string crosses the end of a line, and no member of an object begins with a
  // bracket.
  if (scanner.is_in_string()) return true;
  const std::size_t last = text.find_last_not_of(spaces, newline);
  return scanner.innermost() == '{' && next < text.size() && text[next] == '{' && text[last] != ':';
}

// Just past the bracket of the list that an object wraps, if the beginning of the file shows it.
std::optional<std::size_t> wrapped_list(std::string_view text, std::size_t first) {
  for (std::size_t at = skip_spaces(text, first + 1); at < text.size() && text[at] == '"';) {
    const std::size_t begin = at + 1;
    Scanner key;
    while (at < text.size() && !key.take(text[at])) ++at;
    if (at >= text.size()) return std::nullopt;
    const std::string_view name = text.substr(begin, at - begin);

    at = skip_spaces(text, at + 1);
    if (at >= text.size() || text[at] != ':') return std::nullopt;
    at = skip_spaces(text, at + 1);
    if (at < text.size() && text[at] == '[') {
      const std::size_t item = skip_spaces(text, at + 1);
      const bool is_list = item < text.size() && (text[item] == '{' || text[item] == '[');
      if (is_list && std::ranges::find(wrappers, name) != wrappers.end()) return at + 1;
    }
    // On to the next member.
    if (at < text.size() && std::string_view("{[\"").find(text[at]) != std::string_view::npos) {
      Scanner value;
      while (at < text.size() && !value.take(text[at])) ++at;
      ++at;
    }
    at = text.find_first_of(",}", at);
    if (at == std::string_view::npos || text[at] == '}') return std::nullopt;
    at = skip_spaces(text, at + 1);
  }
  return std::nullopt;
}

Error not_prompts(const std::string& path, std::string_view begin) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 5> others{
      std::pair{
          "PAR1",
          "a Parquet file; convert it to JSON Lines: python3 -c \"import pandas; "
          "pandas.read_parquet('FILE').to_json('prompts.jsonl', orient='records', lines=True)\""},
      std::pair{
          "ARROW1",
          "an Arrow file; convert it to JSON Lines: python3 -c \"import pandas; "
          "pandas.read_feather('FILE').to_json('prompts.jsonl', orient='records', lines=True)\""},
      std::pair{"\x1f\x8b", "compressed; gunzip it first"},
      std::pair{"\x28\xb5\x2f\xfd", "compressed; unzstd it first"},
      std::pair{"PK\x03\x04", "a zip archive; unzip it first"}};
  for (const auto& [magic, what] : others)
    if (begin.starts_with(magic)) return {"prompts_malformed", fmt::format("{} is {}", path, what)};
  return {"prompts_malformed",
          fmt::format("{} holds neither JSON (an array, or a record a line) nor CSV with a header",
                      path)};
}

}  // namespace

struct RecordReader::State {
  enum class Form { array, values, lines, csv };

  FileDescriptor file;
  std::string path, buffer;
  std::uint64_t offset = 0, size = 0;
  std::size_t position = 0;  ///< in buffer
  Form form = Form::values;
  std::vector<std::string> header;  ///< CSV only
  std::size_t broken = 0;
  bool is_cut_off = false, has_ended = false;

  Result<bool> refill() {
    if (offset == size) return false;
    const std::size_t kept = buffer.size();
    const std::size_t more = std::min<std::uint64_t>(block_size, size - offset);
    buffer.resize(kept + more);
    CW_CHECK(read_exactly(file, offset, more, buffer.data() + kept, path));
    offset += more;
    return true;
  }

  // Drops what is before `begin`, which is then 0, and reads on; false at the file's end.
  Result<bool> advance(std::size_t& begin) {
    buffer.erase(0, begin);
    position -= std::min(position, begin);
    begin = 0;
    if (buffer.size() > max_record)
      return fail("prompts_malformed", "{}: a record of more than {} bytes", path, max_record);
    return refill();
  }

  // A whole line, without its end; the last need not have one.
  Result<std::optional<std::string>> line() {
    std::size_t begin = position, seen = position;
    for (;;) {
      const std::size_t newline = buffer.find('\n', seen);
      if (newline != std::string::npos) {
        position = newline + 1;
        return buffer.substr(begin, newline - begin);
      }
      seen = buffer.size() - begin;
      CW_TRY(const bool more, advance(begin));
      if (more) continue;
      position = 0;
      has_ended = true;
      if (buffer.empty()) return std::nullopt;
      return std::exchange(buffer, {});
    }
  }

  // The text of the next value of an array, or of a sequence of values.
  Result<std::optional<std::string>> value() {
    std::size_t begin = position;
    Scanner scanner;

    for (std::size_t i = position;; ++i) {
      if (i == buffer.size()) {
        const bool has_begun = scanner.has_begun();
        if (!has_begun) begin = i;
        i -= begin;
        CW_TRY(const bool more, advance(begin));
        if (!more) {
          is_cut_off = has_begun || form == Form::array;
          position = buffer.size();
          return std::nullopt;
        }
      }

      const char c = buffer[i];
      if (!scanner.has_begun()) {
        begin = i;
        if (c == ']' && form == Form::array) {
          position = buffer.size();
          offset = size;
          form = Form::values;  // properly ended
          return std::nullopt;
        }
      }

      if (scanner.take(c)) {
        position = i + 1;
        return buffer.substr(begin, i + 1 - begin);
      }
    }
  }

  // A row's fields; quotes may hold commas and line ends.
  Result<std::optional<std::vector<std::string>>> row() {
    std::vector<std::string> fields(1);
    std::size_t bytes = 0;
    bool is_quoted = false;

    for (;;) {
      CW_TRY(const auto text, line());
      if (!text) {
        is_cut_off = is_cut_off || is_quoted;
        return std::nullopt;
      }

      for (std::size_t i = 0; i < text->size(); ++i) {
        const char c = (*text)[i];
        const bool is_pair = is_quoted && c == '"' && i + 1 < text->size() && (*text)[i + 1] == '"';
        if (is_pair) {
          fields.back() += '"';
          ++i;
        } else if (c == '"') {
          is_quoted = !is_quoted;
        } else if (c == ',' && !is_quoted) {
          fields.emplace_back();
        } else if (c != '\r' || is_quoted) {
          fields.back() += c;
        }
        if (fields.size() > max_columns)
          return fail("prompts_malformed", "{}: a row of more than {} columns", path, max_columns);
      }

      bytes += text->size();
      if (bytes > max_record)
        return fail("prompts_malformed", "{}: a row of more than {} bytes", path, max_record);
      if (!is_quoted) return fields;
      fields.back() += '\n';
    }
  }

  std::optional<Json> parsed(const std::string& text) const {
    auto json = parse_json(text);
    return json ? std::move(json) : parse_json(without_python_numbers(text));
  }
};

RecordReader::RecordReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
RecordReader::RecordReader(RecordReader&&) noexcept = default;
RecordReader& RecordReader::operator=(RecordReader&&) noexcept = default;
RecordReader::~RecordReader() = default;

std::size_t RecordReader::broken() const {
  return state_->broken;
}
bool RecordReader::is_cut_off() const {
  return state_->is_cut_off;
}

Result<RecordReader> RecordReader::open(const std::filesystem::path& path) {
  auto state = std::make_unique<State>();
  State& s = *state;
  s.path = path.string();
  CW_TRY(s.file, open_for_reading(AT_FDCWD, s.path));
  CW_TRY(s.size, file_size(s.file, s.path));
  CW_CHECK(s.refill());
  if (s.buffer.starts_with(byte_order_mark)) s.position = byte_order_mark.size();
  const std::size_t first = skip_spaces(s.buffer, s.position);
  if (first == s.buffer.size()) return fail("prompts_malformed", "{} is empty", s.path);
  s.position = first;

  const char begin = s.buffer[first];
  const std::string_view first_line =
      std::string_view(s.buffer).substr(first, s.buffer.find('\n', first) - first);
  const bool is_json =
      begin == '[' || begin == '{' || (begin == '"' && parse_json(first_line).has_value());
  if (!is_json) {
    if (first_line.find(',') == std::string_view::npos)
      return tl::unexpected(not_prompts(s.path, s.buffer));
    s.form = State::Form::csv;
    CW_TRY(auto header, s.row());
    if (!header || header->size() < 2) return tl::unexpected(not_prompts(s.path, s.buffer));
    s.header = std::move(*header);
  } else if (begin == '"' || has_record_a_line(s.buffer, first)) {
    s.form = State::Form::lines;
  } else if (begin == '[') {
    s.form = State::Form::array;
    ++s.position;
  } else if (const auto list = wrapped_list(s.buffer, first)) {
    s.form = State::Form::array;
    s.position = *list;
  }
  return RecordReader(std::move(state));
}

Result<std::optional<Json>> RecordReader::next() {
  State& s = *state_;
  for (;;) {
    if (s.form == State::Form::csv) {
      CW_TRY(const auto row, s.row());
      if (!row) return std::nullopt;
      if (row->size() == 1 && row->front().empty()) continue;
      Json record = Json::object();
      for (std::size_t i = 0; i < std::min(row->size(), s.header.size()); ++i)
        if (!record.contains(s.header[i])) record[s.header[i]] = (*row)[i];
      return record;
    }

    const bool is_lines = s.form == State::Form::lines;
    CW_TRY(const auto text, is_lines ? s.line() : s.value());
    if (!text) return std::nullopt;
    if (text->find_first_not_of(spaces) == std::string::npos) continue;

    if (auto json = s.parsed(*text)) return json;
    if (is_lines && s.has_ended)
      s.is_cut_off = true;
    else
      ++s.broken;
  }
}

}  // namespace cw
