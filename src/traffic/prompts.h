// Prompts, one at a time: from files of any size, or random.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/result.h"
#include "traffic/prompt_record.h"

namespace cw {

class PromptSource {
 public:
  virtual ~PromptSource() = default;
  /// The next prompt; nothing at the end. Error codes: "prompts_malformed", and those of reading.
  virtual Result<std::optional<Prompt>> next() = 0;
  /// Starts over from the first. Error codes: those of opening.
  virtual Result<void> rewind() = 0;
  /// Whether its prompts are texts; else token ids.
  virtual bool has_text() const = 0;
  /// What a user should know about what was read: "2 lines of x.jsonl are no JSON; 17 later turns
  /// were not sent".
  virtual std::string warning() const { return {}; }
};

/// All records of the files, in order (records.h, prompt_record.h). On success, at least one prompt
/// has been found. Error codes: "not_found", "prompts_malformed" (with what was expected),
/// and those of reading.
Result<std::unique_ptr<PromptSource>> open_prompts(const std::vector<std::filesystem::path>& files,
                                                   Turns turns = Turns::first);

/// Prompts of random tokens: lengths log-uniform in [low, high], which covers decades evenly.
struct RandomPrompts {
  std::int64_t input_low = 16, input_high = 2048;
  std::int64_t output_low = 4, output_high = 256;
  std::int64_t vocabulary = 10'000;
  std::uint64_t seed = 1;
};
std::unique_ptr<PromptSource> make_random_prompts(const RandomPrompts& options);

/// A log-uniform length in [low, high], with low at least 1: decades are covered evenly.
std::int64_t log_uniform(std::mt19937_64& random, std::int64_t low, std::int64_t high);

/// Common words, one per token, for APIs that do not accept token ids. About as many tokens with
/// any tokenizer.
std::string words_for(const std::vector<std::int32_t>& token_ids);

}  // namespace cw
