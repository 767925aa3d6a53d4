// What one record of a prompt file requests. Formats are recognised by their members:
//
//   conversations  "conversations" (ShareGPT), "messages" (OpenAI), "conversation" (WildChat,
//                  LMSYS),
//                  "turns" (MT-bench), "prompt" or "input" with messages, or a bare list; of
//                  {"role" or "from", "content", "value" or "text"}, or of strings. Content may be
//                  a list of parts, of which the text parts are taken
//   OpenAI batch   {"body": {…}}
//   Alpaca         {"instruction", "input", "output"}
//   custom         "prompt", "text", "question", "problem", "input", "query", "content", …, and
//                  "output", "answer", …
//   token ids      "input_ids", "prompt_token_ids", or "prompt" with a list of them
//   lengths        Mooncake's {"timestamp", "input_length", "output_length", "hash_ids"}, or the
//                  columns of the BurstGPT and Azure traces: tokens are random, but equal for equal
//                  hashes
//
// and other request parameters: "max_tokens" and the like, "temperature", "top_p", …, at
// the top level or in "sampling_params".
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace cw {

struct Message {
  std::string role;  ///< "system", "user", "assistant", "tool"
  std::string content;
  Json beside;  ///< other members of the chat API ("tool_calls", "tool_call_id", "name"); else
                ///< null
};

struct Prompt {
  std::vector<Message> messages;        ///< the last one is the user's or a tool's
  std::vector<std::int32_t> token_ids;  ///< instead of messages
  /// Requested, or estimated from the answer in the data; 0: unknown.
  std::int64_t output_tokens = 0;
  Json sampling = Json::object();  ///< what the record requests: {"temperature": 0.7, …
  std::optional<double> arrival;   ///< in seconds, from an arbitrary start

  /// The messages as one text, for APIs without roles.
  std::string text() const;
};

/// Which questions of a conversation are asked, each with everything said before it.
enum class Turns {
  first,  ///< as the engines' own benchmarks do
  last,
  all,
};

struct RecordPrompts {
  std::vector<Prompt> prompts;                  ///< empty: the record holds none
  std::map<std::string, std::size_t> left_out;  ///< what is not sent, by kind
};

/// A conversation whose last message is the user's or a tool's is one request, regardless of
/// `turns`.
RecordPrompts prompts_of(const Json& record, Turns turns);

/// `length` random tokens; the same for the same seed on every machine.
std::vector<std::int32_t> random_tokens(std::uint64_t seed, std::size_t length,
                                        std::int64_t vocabulary);

}  // namespace cw
