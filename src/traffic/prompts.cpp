#include "traffic/prompts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>

#include "base/console.h"
#include "base/process.h"
#include "traffic/records.h"

namespace cw {
namespace {

constexpr std::size_t max_names_shown = 16;  // of what is left out, as reported to the user

class FilePrompts final : public PromptSource {
 public:
  FilePrompts(std::vector<std::filesystem::path> files, Turns turns)
      : files_(std::move(files)), turns_(turns) {}

  Result<std::optional<Prompt>> next() override {
    while (waiting_.empty()) {
      CW_TRY(const bool has_more, read_record());
      if (!has_more) return std::nullopt;
    }
    Prompt prompt = std::move(waiting_.front());
    waiting_.pop_front();
    return prompt;
  }

  Result<void> rewind() override {
    is_first_pass_ = false;
    waiting_.clear();
    reader_.reset();
    file_ = 0;
    return {};
  }

  bool has_text() const override { return has_text_; }

  // Files without prompts, and files of another kind, are found before anything is done with them.
  Result<void> find_first() {
    std::optional<Error> first_error;

    std::erase_if(files_, [&](const std::filesystem::path& file) {
      const auto opened = RecordReader::open(file);
      if (opened) return false;
      if (!first_error) first_error = opened.error();
      unusable_.push_back(opened.error().message);
      return true;
    });
    if (files_.empty()) return tl::unexpected(*first_error);

    while (waiting_.empty()) {
      CW_TRY(const bool has_more, read_record());
      if (!waiting_.empty()) has_text_ = !waiting_.front().messages.empty();
      if (has_more) continue;

      constexpr std::string_view expected =
          "expected \"conversations\", \"messages\", \"conversation\" or \"turns\", "
          "\"instruction\" (Alpaca), \"prompt\", \"text\" or \"question\", or \"input_length\" "
          "(Mooncake)";
      return fail("prompts_malformed", "{}: none of its {} records is a prompt; {}{}{}",
                  files_.front().string(), with_separators(records_ + broken_), expected,
                  first_without_.empty() ? "" : "\nThe first has " + first_without_,
                  files_.size() > 1
                      ? fmt::format("\nNor is any in the {} other files", files_.size() - 1)
                      : "");
    }
    return {};
  }

  std::string warning() const override {
    std::vector<std::string> notes;
    notes.insert(notes.end(), unusable_.begin(), unusable_.end());
    for (const std::string& name : cut_off_)
      notes.push_back(name + " is cut off; its whole records are used");
    const auto note = [&notes](std::size_t count, std::string_view one, std::string_view many) {
      if (count > 0)
        notes.push_back(fmt::format("{} {}", with_separators(count), count == 1 ? one : many));
    };
    note(broken_, "record is not JSON and was skipped", "records are not JSON and were skipped");
    note(without_, "record holds no prompt", "records hold no prompt");
    for (const auto& [what, count] : left_out_) {
      const bool is_turns = what == "later turns" || what == "earlier turns";
      notes.push_back(
          fmt::format("{} × {} not sent{}", with_separators(count), what,
                      is_turns ? " (--turns all sends each with what was said before)" : ""));
    }
    return fmt::format("{}", fmt::join(notes, "; "));
  }

 private:
  // False at the end of the last file.
  Result<bool> read_record() {
    if (stop_signal() != 0) return fail("interrupted", "interrupted");
    if (!reader_) {
      if (file_ == files_.size()) return false;
      CW_TRY(reader_, RecordReader::open(files_[file_]));
    }
    auto read = reader_->next();

    // Longer than any real record: the rest of that file is not read.
    if (!read && read.error().code == "prompts_malformed" && (files_.size() > 1 || records_ > 0)) {
      if (is_first_pass_)
        unusable_.push_back(read.error().message + "; the rest of it was not read");
      read = std::optional<Json>();
    }
    CW_TRY(const auto record, std::move(read));
    if (!record) {
      if (is_first_pass_) {
        broken_ += reader_->broken();
        if (reader_->is_cut_off()) cut_off_.push_back(files_[file_].filename().string());
      }
      reader_.reset();
      ++file_;
      return true;
    }
    RecordPrompts found = prompts_of(*record, turns_);
    if (is_first_pass_) {
      ++records_;
      if (found.prompts.empty()) note_without(*record);
      for (const auto& [what, count] : found.left_out)
        left_out_[left_out_.contains(what) || left_out_.size() < max_names_shown
                      ? what
                      : std::string("others")] += count;
    }
    waiting_.insert(waiting_.end(), std::make_move_iterator(found.prompts.begin()),
                    std::make_move_iterator(found.prompts.end()));
    return true;
  }

  void note_without(const Json& record) {
    if (without_++ > 0) return;
    constexpr std::size_t max = 8;
    std::vector<std::string> names;
    if (record.is_object())
      for (const auto& [name, value] : record.items())
        if (names.size() < max) names.push_back('"' + name.substr(0, 40) + '"');
    first_without_ = names.empty() ? brief(record) : fmt::format("{}", fmt::join(names, ", "));
  }

  std::vector<std::filesystem::path> files_;
  std::vector<std::string> unusable_;  ///< files, and why
  const Turns turns_;
  std::size_t file_ = 0;
  std::optional<RecordReader> reader_;  ///< of files_[file_]
  std::deque<Prompt> waiting_;          ///< of the last record
  bool is_first_pass_ = true;           ///< counts are taken only once
  bool has_text_ = true;                ///< the first prompt is text
  std::size_t records_ = 0, without_ = 0, broken_ = 0;
  std::vector<std::string> cut_off_;
  std::map<std::string, std::size_t> left_out_;
  std::string first_without_;
};

class RandomSource final : public PromptSource {
 public:
  explicit RandomSource(const RandomPrompts& options) : options_(options), random_(options.seed) {}

  Result<std::optional<Prompt>> next() override {
    Prompt prompt;
    const std::int64_t length = log_uniform(random_, options_.input_low, options_.input_high);
    for (std::int64_t i = 0; i < length; ++i)
      prompt.token_ids.push_back(
          static_cast<std::int32_t>(random_() % static_cast<std::uint64_t>(options_.vocabulary)));
    prompt.output_tokens = log_uniform(random_, options_.output_low, options_.output_high);
    return prompt;
  }

  bool has_text() const override { return false; }

  Result<void> rewind() override {
    random_.seed(options_.seed);
    return {};
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

std::string words_for(const std::vector<std::int32_t>& token_ids) {
  constexpr std::array<std::string_view, 64> words{
      "the",   "of",   "and",  "to",   "in",    "is",     "for",  "on",   "that", "by",    "this",
      "with",  "you",  "it",   "not",  "or",    "be",     "are",  "from", "at",   "as",    "your",
      "all",   "have", "new",  "more", "an",    "was",    "we",   "will", "home", "can",   "us",
      "about", "if",   "page", "my",   "has",   "search", "free", "but",  "our",  "one",   "other",
      "do",    "no",   "time", "they", "site",  "he",     "up",   "may",  "what", "which", "their",
      "news",  "out",  "use",  "any",  "there", "see",    "only", "so",   "his"};
  std::string text;
  for (const std::int32_t id : token_ids) {
    if (!text.empty()) text += ' ';
    text += words[static_cast<std::size_t>(id) % words.size()];
  }
  return text;
}

Result<std::unique_ptr<PromptSource>> open_prompts(const std::vector<std::filesystem::path>& files,
                                                   Turns turns) {
  auto source = std::make_unique<FilePrompts>(files, turns);
  CW_CHECK(source->find_first());
  return source;
}

std::unique_ptr<PromptSource> make_random_prompts(const RandomPrompts& options) {
  return std::make_unique<RandomSource>(options);
}

}  // namespace cw
