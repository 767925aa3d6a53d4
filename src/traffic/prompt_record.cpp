#include "traffic/prompt_record.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <ctime>
#include <limits>
#include <random>
#include <string_view>

#include <fmt/format.h>

#include "base/hash.h"

namespace cw {
namespace {

constexpr std::array conversation_names{"messages", "conversations", "conversation", "turns",
                                        "dialogue", "dialog",        "chat",         "prompt",
                                        "input",    "data"};
constexpr std::array text_names{"prompt", "text", "question", "problem", "input", "inputs",
                                "query",  "goal", "content",  "task",    "user",  "value"};
constexpr std::array answer_names{"output",   "completion", "answer",
                                  "response", "chosen",     "solution"};
constexpr std::array system_names{"system", "system_prompt", "system_message"};
constexpr std::array token_names{"input_ids", "prompt_token_ids", "token_ids", "prompt"};
constexpr std::array output_length_names{
    "max_tokens",      "max_completion_tokens", "max_output_tokens", "max_new_tokens",
    "output_tokens",   "output_length",         "output_len",        "completion_tokens",
    "Response tokens", "num_decode_tokens",     "GeneratedTokens"};
constexpr std::array input_length_names{"input_length",      "input_len",      "prompt_len",
                                        "input_tokens",      "Request tokens", "ContextTokens",
                                        "num_prefill_tokens"};
constexpr std::array sampling_names{
    "temperature",       "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
    "repetition_penalty"};
// Request members; what they change does not show in the collected calls, or is not ours to send.
constexpr std::array never_sent{
    "tools",       "functions", "response_format", "logit_bias", "stop",      "images",    "image",
    "image_data",  "image_url", "audio",           "video",      "video_url", "logprobs",  "n",
    "seed",        "best_of",   "json_schema",     "regex",      "ebnf",      "lora_path", "videos",
    "tool_choice", "audios"};

constexpr std::size_t hashed_block = 512;  // tokens per hash in Mooncake's traces
// Over all prompts of a record: each includes what was said before it.
constexpr std::size_t max_text = 16 << 20;
constexpr std::size_t of_json = 8;  // bytes in memory per byte of text
constexpr std::int64_t max_prompt_length = 1 << 20, max_answer_length = 16 << 20;  // tokens
constexpr std::size_t max_names = 64;                   // names of what is left out
constexpr std::int64_t vocabulary_of_lengths = 10'000;  // smaller than any model's

// Four letters per token is close enough to choose a length by.
std::int64_t estimated_tokens(std::string_view text) {
  return static_cast<std::int64_t>(text.size() / 4 + 1);
}

bool is_alike(std::string_view a, std::string_view b) {
  const auto same = [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) ==
           std::tolower(static_cast<unsigned char>(y));
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

// A member that is not null, in either case of letters. Null: there is none.
const Json* member(const Json& object, std::string_view name) {
  for (const auto& [key, value] : object.get_ref<const Json::object_t&>())
    if (is_alike(key, name) && !value.is_null()) return &value;
  return nullptr;
}

std::string role_of(std::string_view from) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 18> roles{
      std::pair{"human", "user"},          std::pair{"user", "user"},
      std::pair{"prompter", "user"},       std::pair{"gpt", "assistant"},
      std::pair{"assistant", "assistant"}, std::pair{"chatgpt", "assistant"},
      std::pair{"bard", "assistant"},      std::pair{"bing", "assistant"},
      std::pair{"model", "assistant"},     std::pair{"bot", "assistant"},
      std::pair{"ai", "assistant"},        std::pair{"function_call", "assistant"},
      std::pair{"system", "system"},       std::pair{"developer", "system"},
      std::pair{"tool", "tool"},           std::pair{"function", "tool"},
      std::pair{"observation", "tool"},    std::pair{"ipython", "tool"}};
  for (const auto& [name, role] : roles)
    if (is_alike(name, from)) return std::string(role);
  return {};
}

std::optional<std::int64_t> integer(const Json& value, std::int64_t max) {
  double number = -1;
  if (value.is_number()) number = value.get<double>();
  if (value.is_string()) {  // from CSV
    const std::string& text = value.get_ref<const std::string&>();
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
    if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return std::nullopt;
  }
  if (!(number >= 0) || number > static_cast<double>(max) || number != std::floor(number))
    return std::nullopt;
  return static_cast<std::int64_t>(number);
}

// A number, possibly in a string; or a date and time as in Azure's traces (2023-11-16
// 18:17:03.9799600), in seconds since 1970.
std::optional<double> seconds_of(const Json& value) {
  if (value.is_number()) return value.get<double>();
  if (!value.is_string()) return std::nullopt;
  const std::string& text = value.get_ref<const std::string&>();
  double number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() && std::isfinite(number))
    return number;
  std::tm parts{};
  const char* const rest = ::strptime(text.c_str(), "%Y-%m-%d", &parts);
  if (rest == nullptr || (*rest != ' ' && *rest != 'T')) return std::nullopt;
  const char* const fraction = ::strptime(rest + 1, "%H:%M:%S", &parts);
  if (fraction == nullptr) return std::nullopt;
  double part = 0;
  if (*fraction == '.') (void)std::from_chars(fraction, text.data() + text.size(), part);
  return static_cast<double>(::timegm(&parts)) + part;
}

// The first of these members with a number of at least 1.
template <typename Names>
std::int64_t first_length(const Json& object, const Names& names, std::int64_t max) {
  for (const char* name : names)
    if (const Json* const value = member(object, name))
      if (const auto length = integer(*value, max); length && *length > 0) return *length;
  return 0;
}

class Reader {
 public:
  Reader(const Json& record, Turns turns) : record_(record), turns_(turns) {}

  RecordPrompts read() {
    if (record_.is_string()) add_text(record_.get<std::string>());
    if (record_.is_array()) take_conversation(record_);
    if (record_.is_object()) take_object(record_);
    return std::move(result_);
  }

 private:
  void take_object(const Json& object) {
    for (const char* wrapper : {"body", "row"})
      if (const Json* const inner = member(object, wrapper); inner != nullptr && inner->is_object())
        return take_object(*inner);
    for (const char* name : system_names)
      if (const Json* const text = member(object, name);
          text != nullptr && text->is_string() && system_.empty())
        system_ = text->get<std::string>();

    const bool has_any = take_conversations(object) || take_tokens(object) || take_texts(object) ||
                         take_lengths(object);
    if (has_any) take_request(object);
  }

  bool take_conversations(const Json& object) {
    for (const char* name : conversation_names)
      if (const Json* const list = member(object, name); list != nullptr && list->is_array())
        if (take_conversation(*list)) return true;
    return false;
  }

  // From a list of messages, or of texts: all questions ("turns", "prompt"), or alternating.
  bool take_conversation(const Json& list) {
    if (list.empty()) return false;
    const bool has_texts =
        std::ranges::all_of(list, [](const Json& item) { return item.is_string(); });
    if (has_texts) return false;
    std::vector<Message> messages;
    for (const Json& item : list) {
      if (!item.is_object()) return false;
      if (auto message = to_message(item)) messages.push_back(std::move(*message));
    }

    // Some conversations begin with an answer.
    const auto is_question = [](const Message& m) { return m.role == "user" || m.role == "tool"; };
    const auto begin = std::ranges::find_if(messages, is_question);
    messages.erase(std::remove_if(messages.begin(), begin,
                                  [](const Message& m) { return m.role == "assistant"; }),
                   begin);
    if (!system_.empty() && !messages.empty() && messages[0].role != "system")
      messages.insert(messages.begin(), {"system", system_, nullptr});

    // Where it is the engine's turn.
    std::vector<std::size_t> questions;
    for (std::size_t i = 0; i < messages.size(); ++i)
      if (is_question(messages[i]) &&
          (i + 1 == messages.size() || messages[i + 1].role == "assistant"))
        questions.push_back(i);
    if (questions.empty()) return false;
    const bool has_answer = messages.back().role == "assistant";
    const bool is_last_only = !has_answer || turns_ == Turns::last;
    if (has_answer && turns_ == Turns::first)
      result_.left_out["later turns"] += questions.size() - 1;
    if (has_answer && turns_ == Turns::last)
      result_.left_out["earlier turns"] += questions.size() - 1;
    if (is_last_only)
      questions = {questions.back()};
    else if (turns_ == Turns::first)
      questions.resize(1);
    std::vector<std::size_t> length_before(1, 0);
    for (const Message& message : messages)
      length_before.push_back(
          length_before.back() + message.content.size() +
          (message.beside.is_null() ? 0 : of_json * dump(message.beside).size()) + 64);
    std::size_t text = 0;
    for (const std::size_t question : questions) {
      text += length_before[question + 1];
      if (text > max_text && question != questions.front()) {
        note("turns of very long conversations");
        continue;
      }
      Prompt prompt;
      prompt.messages.assign(messages.begin(),
                             messages.begin() + static_cast<std::ptrdiff_t>(question) + 1);
      if (question + 1 < messages.size())
        prompt.output_tokens = estimated_tokens(messages[question + 1].content);
      result_.prompts.push_back(std::move(prompt));
    }
    drop_none();
    return true;
  }

  std::optional<Message> to_message(const Json& item) {
    Message message;

    // Every dataset has its own names for the speaker and the text.
    for (const char* name : {"role", "from", "speaker"})
      if (message.role.empty()) message.role = role_of(string_member(item, name));
    for (const char* name : {"content", "value", "text"})
      if (const Json* const content = member(item, name);
          content != nullptr && message.content.empty())
        message.content = text_of(*content);

    Json beside = Json::object();
    for (const char* name : {"tool_calls", "tool_call_id", "name"})
      if (const Json* const value = member(item, name)) beside[name] = *value;

    if (message.role.empty()) {
      note("messages with an unknown role");
      return std::nullopt;
    }

    if (!beside.empty()) message.beside = std::move(beside);
    if (message.content.empty() &&
        (message.beside.is_null() || !message.beside.contains("tool_calls"))) {
      note("messages without text");
      return std::nullopt;
    }

    return message;
  }

  // A string, or the text parts of a list.
  std::string text_of(const Json& content) {
    if (content.is_string()) return content.get<std::string>();
    if (content.is_number()) return dump(content);
    if (content.is_object()) {
      if (const Json* const parts = member(content, "parts")) return text_of(*parts);
      if (const Json* const text = member(content, "text"); text != nullptr && text->is_string())
        return text->get<std::string>();
      const std::string type = string_member(content, "type");
      note(type.empty() ? "parts that are not text" : "parts of type " + type.substr(0, 40));
      return {};
    }
    std::string text;
    if (!content.is_array()) return text;
    for (const Json& part : content) {
      const std::string more = part.is_array() ? std::string() : text_of(part);
      if (!more.empty()) text += (text.empty() ? "" : "\n") + more;
    }
    return text;
  }

  bool take_tokens(const Json& object) {
    for (const char* name : token_names) {
      const Json* const list = member(object, name);
      if (list == nullptr || !list->is_array() || list->empty()) continue;
      Prompt prompt;
      for (const Json& id : *list) {
        const auto number =
            id.is_number() ? integer(id, std::numeric_limits<std::int32_t>::max()) : std::nullopt;
        if (!number) break;
        prompt.token_ids.push_back(static_cast<std::int32_t>(*number));
      }
      if (prompt.token_ids.size() != list->size()) continue;
      result_.prompts.push_back(std::move(prompt));
      add_answer(object);
      return true;
    }
    return false;
  }

  bool take_texts(const Json& object) {
    // MT-bench's questions of one conversation; the engine's answers in between are not known.
    if (const Json* const turns = member(object, "turns");
        turns != nullptr && take_questions(*turns))
      return true;

    // Alternating texts, a question first.
    for (const char* name : {"conversation", "conversations", "dialog", "dialogue", "data"})
      if (const Json* const texts = member(object, name); texts != nullptr && take_by_turns(*texts))
        return true;

    // A batch of one request.
    for (const char* name : {"prompt", "text", "inputs"})
      if (const Json* const texts = member(object, name); texts != nullptr && is_texts(*texts)) {
        for (const Json& text : *texts) add_text(text.get<std::string>());
        return !result_.prompts.empty();
      }

    std::string text;
    if (const Json* const instruction = member(object, "instruction"); instruction != nullptr)
      text = text_of(*instruction);
    if (!text.empty()) {
      const Json* const input = member(object, "input");
      if (input != nullptr && input->is_string() && !input->get_ref<const std::string&>().empty())
        text += "\n\n" + input->get<std::string>();
    }
    for (const char* name : text_names)
      if (const Json* const value = member(object, name);
          value != nullptr && text.empty() && value->is_string())
        text = value->get<std::string>();
    if (!add_text(std::move(text))) return false;
    add_answer(object);
    return true;
  }

  static bool is_texts(const Json& list) {
    return list.is_array() && !list.empty() &&
           std::ranges::all_of(list, [](const Json& item) { return item.is_string(); });
  }

  bool take_questions(const Json& list) {
    if (!is_texts(list)) return false;
    std::string text;
    std::size_t asked = 0, total = 0;
    for (const Json& question : list) {
      text += (text.empty() ? "" : "\n\n") + question.get<std::string>();
      if ((total += text.size()) > max_text && asked > 0) break;
      const bool is_asked =
          turns_ == Turns::all || (turns_ == Turns::first ? asked == 0 : &question == &list.back());
      if (is_asked) add_text(text);
      ++asked;
    }
    if (turns_ == Turns::first) result_.left_out["later turns"] += list.size() - 1;
    if (turns_ == Turns::last) result_.left_out["earlier turns"] += list.size() - 1;
    drop_none();
    return !result_.prompts.empty();
  }

  bool take_by_turns(const Json& list) {
    if (!is_texts(list)) return false;
    Json messages = Json::array();
    for (const Json& text : list)
      messages.push_back(
          {{"role", messages.size() % 2 == 0 ? "user" : "assistant"}, {"content", text}});
    return take_conversation(messages);
  }

  bool take_lengths(const Json& object) {
    const std::int64_t length = first_length(object, input_length_names, max_prompt_length);
    if (length == 0) return false;
    const auto size = static_cast<std::size_t>(length);
    Prompt prompt;
    const Json* const hashes = member(object, "hash_ids");
    if (hashes != nullptr && hashes->is_array())
      for (const Json& hash : *hashes) {
        if (prompt.token_ids.size() >= size) break;
        const auto block = random_tokens(xxh3_64(dump(hash)), hashed_block, vocabulary_of_lengths);
        prompt.token_ids.insert(prompt.token_ids.end(), block.begin(), block.end());
      }
    if (prompt.token_ids.size() < size) {
      const auto rest = random_tokens(xxh3_64(dump(object)), size - prompt.token_ids.size(),
                                      vocabulary_of_lengths);
      prompt.token_ids.insert(prompt.token_ids.end(), rest.begin(), rest.end());
    }
    prompt.token_ids.resize(size);
    result_.prompts.push_back(std::move(prompt));
    return true;
  }

  // What a request asks for besides the prompt.
  void take_request(const Json& object) {
    std::int64_t length = 0;
    Json sampling = Json::object();
    for (const char* place : {"", "sampling_params", "parameters", "generation_config"}) {
      const Json* const asked = *place == '\0' ? &object : member(object, place);
      if (asked == nullptr || !asked->is_object()) continue;
      if (length == 0) length = first_length(*asked, output_length_names, max_answer_length);
      for (const char* name : sampling_names)
        if (const Json* const value = member(*asked, name)) {
          if (value->is_number())
            sampling[name] = *value;
          else if (const auto number = seconds_of(*value))  // a number in a string
            sampling[name] = *number;
        }
      for (const char* name : never_sent)
        if (const auto value = asked->find(name); value != asked->end() && says_something(*value))
          note(fmt::format("\"{}\"", name));
    }

    // Mooncake's are in milliseconds; BurstGPT's, and those next to texts, in seconds.
    const bool is_milliseconds = object.contains("timestamp") &&
                                 first_length(object, input_length_names, max_prompt_length) > 0;
    const Json* const time = member(object, "timestamp");
    if (const auto arrival = time == nullptr ? std::nullopt : seconds_of(*time))
      result_.prompts.front().arrival = *arrival / (is_milliseconds ? 1000 : 1);
    for (Prompt& prompt : result_.prompts) {
      if (length > 0) prompt.output_tokens = length;
      prompt.sampling = sampling;
    }
  }

  static bool says_something(const Json& value) {
    return !value.is_null() && value != Json(false) && value != Json(1) && value != Json("") &&
           !value.empty();
  }

  // A record may be a batch, with a system prompt before each item.
  bool add_text(std::string text) {
    if (text.find_first_not_of(" \t\r\n") == std::string::npos) return false;
    text_ += system_.size() + text.size();
    if (text_ > max_text && !result_.prompts.empty()) {
      note("prompts of very long records");
      return true;
    }
    Prompt prompt;
    if (!system_.empty()) prompt.messages.push_back({"system", system_, nullptr});
    prompt.messages.push_back({"user", std::move(text), nullptr});
    result_.prompts.push_back(std::move(prompt));
    return true;
  }

  void add_answer(const Json& object) {
    for (const char* name : answer_names) {
      const Json* const answer = member(object, name);
      if (answer == nullptr) continue;
      std::string text;
      if (answer->is_string()) text = answer->get<std::string>();
      if (answer->is_array() && !answer->empty() && answer->back().is_object())
        text = string_member(answer->back(), "content");
      if (text.empty()) continue;
      result_.prompts.back().output_tokens = estimated_tokens(text);
      return;
    }
  }

  // Names come from the file: there could be any number of them.
  void note(const std::string& what) {
    auto& counts = result_.left_out;
    ++counts[counts.contains(what) || counts.size() < max_names ? what : std::string("others")];
  }

  void drop_none() {
    std::erase_if(result_.left_out, [](const auto& item) { return item.second == 0; });
  }

  const Json& record_;
  const Turns turns_;
  std::string system_;
  std::size_t text_ = 0;  ///< bytes that add_text() has made
  RecordPrompts result_;
};

}  // namespace

std::string Prompt::text() const {
  std::string text;
  for (const Message& message : messages)
    if (!message.content.empty()) text += (text.empty() ? "" : "\n\n") + message.content;
  return text;
}

RecordPrompts prompts_of(const Json& record, Turns turns) {
  return Reader(record, turns).read();
}

std::vector<std::int32_t> random_tokens(std::uint64_t seed, std::size_t length,
                                        std::int64_t vocabulary) {
  std::mt19937_64 random(seed);
  std::vector<std::int32_t> tokens(length);
  for (std::int32_t& token : tokens)
    token = static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(vocabulary));
  return tokens;
}

}  // namespace cw
