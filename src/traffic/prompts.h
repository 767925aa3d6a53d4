// Prompts, one after the other, from files of any size.
//
// Formats, told by their content:
//   ShareGPT       a JSON array of {"conversations": [{"from": "human", "value": …}, {"from": "gpt", …}, …]}
//   Alpaca         a JSON array, or lines, of {"instruction", "input", "output"}
//   OpenAI chat    lines of {"messages": [{"role", "content"}, …]}
//   custom         lines of {"prompt" or "text": …, "output" or "output_tokens": …}
// A file that is cut off gives its whole records.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace cw {

struct Prompt {
  std::vector<std::pair<std::string, std::string>> messages;  ///< role and content; the last one is the user's
  std::vector<std::int32_t> token_ids;                        ///< instead of messages, for shapes without text
  std::int64_t output_tokens = 0;  ///< of the answer in the data, estimated; 0: unknown

  /// The messages as one text, for APIs without roles.
  std::string text() const;
};

class PromptSource {
 public:
  virtual ~PromptSource() = default;
  /// The next prompt; nothing at the end. Error codes: "prompts_malformed", "unreadable".
  virtual Result<std::optional<Prompt>> next() = 0;
  /// What a user should know about the source once it has been read: "cut off after 17,671 records".
  virtual std::string warning() const { return {}; }
};

/// Error codes: "not_found", "prompts_malformed" (with what was expected).
Result<std::unique_ptr<PromptSource>> open_prompts(const std::filesystem::path& path);

/// Prompts of random tokens: lengths uniform in [low, high], or log-uniform, which covers decades evenly.
struct RandomPrompts {
  std::int64_t input_low = 16, input_high = 2048;
  std::int64_t output_low = 4, output_high = 256;
  std::int64_t vocabulary = 10'000;
  std::uint64_t seed = 1;
};
std::unique_ptr<PromptSource> make_random_prompts(const RandomPrompts& options);

/// A length in [low, high], low at least 1, with a logarithm spread evenly: decades are covered alike.
std::int64_t log_uniform(std::mt19937_64& random, std::int64_t low, std::int64_t high);

/// Records of a JSON array or of JSON lines, one by one, without holding the file.
class RecordReader {
 public:
  static Result<RecordReader> open(const std::filesystem::path& path);
  RecordReader(RecordReader&&) noexcept;
  ~RecordReader();
  /// The text of the next whole record; nothing at the end.
  Result<std::optional<std::string>> next();
  bool is_cut_off() const;

 private:
  struct State;
  explicit RecordReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace cw
