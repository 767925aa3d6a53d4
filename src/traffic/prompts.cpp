#include "traffic/prompts.h"

#include <algorithm>
#include <cmath>

#include <fcntl.h>

#include "base/console.h"
#include "base/file.h"
#include "base/json.h"

namespace cw {
namespace {

constexpr std::size_t largest_record = 64 << 20;

// Four letters a token is close enough to choose a length by.
std::int64_t estimated_tokens(std::string_view text) {
  return static_cast<std::int64_t>(text.size() / 4 + 1);
}

std::string role_of(std::string_view from) {
  if (from == "human" || from == "user") return "user";
  if (from == "gpt" || from == "assistant" || from == "chatgpt" || from == "bard") return "assistant";
  return from == "system" ? "system" : "";
}

// Up to the first answer: what the engine is asked, and how long the answer in the data is.
std::optional<Prompt> from_turns(const Json& turns, const char* role_name, const char* content_name) {
  Prompt prompt;
  if (!turns.is_array()) return std::nullopt;
  for (const Json& turn : turns) {
    if (!turn.is_object()) return std::nullopt;
    const std::string role = role_of(string_member(turn, role_name));
    std::string content = string_member(turn, content_name);
    if (role.empty() || content.empty()) continue;
    if (role == "assistant") {
      if (prompt.messages.empty()) continue;  // conversations that begin with an answer
      prompt.output_tokens = estimated_tokens(content);
      break;
    }
    prompt.messages.emplace_back(role, std::move(content));
  }
  if (prompt.messages.empty()) return std::nullopt;
  return prompt;
}

std::optional<Prompt> to_prompt(const Json& record) {
  if (!record.is_object()) return std::nullopt;
  if (record.contains("conversations")) return from_turns(record["conversations"], "from", "value");
  if (record.contains("messages")) return from_turns(record["messages"], "role", "content");
  std::string text, answer;
  if (record.contains("instruction")) {
    text = string_member(record, "instruction");
    if (const std::string input = string_member(record, "input"); !input.empty()) text += "\n\n" + input;
    answer = string_member(record, "output");
  } else {
    for (const char* name : {"prompt", "text", "question"})
      if (text.empty()) text = string_member(record, name);
    for (const char* name : {"output", "completion", "answer"})
      if (answer.empty()) answer = string_member(record, name);
  }
  if (text.empty()) return std::nullopt;
  Prompt prompt;
  prompt.messages.emplace_back("user", std::move(text));
  if (!answer.empty()) prompt.output_tokens = estimated_tokens(answer);
  const auto given = record.find("output_tokens");
  if (given != record.end() && given->is_number_integer()) prompt.output_tokens = given->get<std::int64_t>();
  return prompt;
}

class FilePrompts final : public PromptSource {
 public:
  FilePrompts(std::string path, RecordReader reader) : path_(std::move(path)), reader_(std::move(reader)) {}

  Result<std::optional<Prompt>> next() override {
    for (;;) {
      CW_TRY(const auto record, reader_.next());
      if (!record) return std::nullopt;
      ++records_;
      const auto json = parse_json(*record);
      auto prompt = json ? to_prompt(*json) : std::nullopt;
      if (prompt) return prompt;
      ++skipped_;
      if (skipped_ == records_ && records_ >= 100)
        return fail("prompts_malformed",
                    "{}: none of its first {} records is a prompt; expected \"conversations\" (ShareGPT), \"messages\" "
                    "(OpenAI chat), \"instruction\" (Alpaca), or \"prompt\" or \"text\"",
                    path_, records_);
    }
  }

  std::string warning() const override {
    std::string text;
    if (reader_.is_cut_off()) text = fmt::format("{} is cut off; its {} whole records are used", path_, records_);
    if (skipped_ > 0)
      text += fmt::format("{}{} records of {} hold no prompt", text.empty() ? "" : "; ", with_separators(skipped_),
                          path_);
    return text;
  }

 private:
  std::string path_;
  RecordReader reader_;
  std::size_t records_ = 0, skipped_ = 0;
};

class RandomSource final : public PromptSource {
 public:
  explicit RandomSource(const RandomPrompts& options) : options_(options), random_(options.seed) {}

  Result<std::optional<Prompt>> next() override {
    Prompt prompt;
    const std::int64_t length = log_uniform(random_, options_.input_low, options_.input_high);
    for (std::int64_t i = 0; i < length; ++i)
      prompt.token_ids.push_back(static_cast<std::int32_t>(random_() % static_cast<std::uint64_t>(options_.vocabulary)));
    prompt.output_tokens = log_uniform(random_, options_.output_low, options_.output_high);
    return prompt;
  }

 private:
  RandomPrompts options_;
  std::mt19937_64 random_;
};

}  // namespace

// Not std's distributions: their results differ from one library to the next.
std::int64_t log_uniform(std::mt19937_64& random, std::int64_t low, std::int64_t high) {
  const double u = static_cast<double>(random() >> 11) * 0x1p-53;
  const double a = std::log(static_cast<double>(low)), b = std::log(static_cast<double>(high) + 1);
  return std::clamp(static_cast<std::int64_t>(std::exp(a + u * (b - a))), low, high);
}

std::string Prompt::text() const {
  std::string text;
  for (const auto& [role, content] : messages) text += (text.empty() ? "" : "\n\n") + content;
  return text;
}

// A scanner that knows only of strings and brackets: enough to find where a record ends.
struct RecordReader::State {
  FileDescriptor file;
  std::string path, buffer;
  std::uint64_t offset = 0, size = 0;
  std::size_t position = 0;  ///< in buffer
  bool is_array = false, is_cut_off = false;

  Result<bool> refill() {
    if (offset == size) return false;
    const std::size_t kept = buffer.size();
    const std::size_t more = std::min<std::uint64_t>(block_size, size - offset);
    buffer.resize(kept + more);
    CW_CHECK(read_exactly(file, offset, more, buffer.data() + kept, path));
    offset += more;
    return true;
  }
};

RecordReader::RecordReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
RecordReader::RecordReader(RecordReader&&) noexcept = default;
RecordReader::~RecordReader() = default;

bool RecordReader::is_cut_off() const {
  return state_->is_cut_off;
}

Result<RecordReader> RecordReader::open(const std::filesystem::path& path) {
  auto state = std::make_unique<State>();
  state->path = path.string();
  CW_TRY(state->file, open_for_reading(AT_FDCWD, state->path));
  CW_TRY(state->size, file_size(state->file, state->path));
  CW_CHECK(state->refill());
  if (state->buffer.starts_with("\xef\xbb\xbf")) state->position = 3;
  const std::size_t first = state->buffer.find_first_not_of(" \t\r\n", state->position);
  if (first == std::string::npos) return fail("prompts_malformed", "{} is empty", state->path);
  if (state->buffer[first] != '[' && state->buffer[first] != '{')
    return fail("prompts_malformed", "{} is neither a JSON array nor JSON lines", state->path);
  state->is_array = state->buffer[first] == '[';
  state->position = first + (state->is_array ? 1 : 0);
  return RecordReader(std::move(state));
}

Result<std::optional<std::string>> RecordReader::next() {
  State& s = *state_;
  std::size_t begin = s.position;
  int depth = 0;
  bool is_in_string = false, is_escaped = false;
  for (std::size_t i = s.position;; ++i) {
    if (i == s.buffer.size()) {
      const bool has_begun = depth > 0;
      s.buffer.erase(0, has_begun ? begin : i);
      i -= has_begun ? begin : i;
      begin = 0;
      if (s.buffer.size() > largest_record)
        return fail("prompts_malformed", "{}: a record of more than {} bytes", s.path, largest_record);
      CW_TRY(const bool more, s.refill());
      if (!more) {
        s.is_cut_off = has_begun || s.is_array;
        s.position = s.buffer.size();
        return std::nullopt;
      }
    }
    const char c = s.buffer[i];
    if (depth == 0) {
      if (c == '{') {
        begin = i;
        depth = 1;
      } else if (c == ']' && s.is_array) {
        s.position = s.buffer.size();
        s.offset = s.size;
        s.is_array = false;  // ended in order
        return std::nullopt;
      }
    } else if (is_escaped) {
      is_escaped = false;
    } else if (is_in_string) {
      is_escaped = c == '\\';
      is_in_string = c != '"';
    } else if (c == '"') {
      is_in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if ((c == '}' || c == ']') && --depth == 0) {
      s.position = i + 1;
      return s.buffer.substr(begin, i + 1 - begin);
    }
  }
}

Result<std::unique_ptr<PromptSource>> open_prompts(const std::filesystem::path& path) {
  CW_TRY(RecordReader reader, RecordReader::open(path));
  return std::make_unique<FilePrompts>(path.string(), std::move(reader));
}

std::unique_ptr<PromptSource> make_random_prompts(const RandomPrompts& options) {
  return std::make_unique<RandomSource>(options);
}

}  // namespace cw
