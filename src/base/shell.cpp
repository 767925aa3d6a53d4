#include "base/shell.h"

#include <algorithm>
#include <cctype>

namespace cw {

std::vector<std::string> shell_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  bool has_word = false;
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool is_escape = c == '\\' && i + 1 < text.size();

    // Inside quotes only the closing one matters, and in double quotes a backslash.
    if (quote != 0) {
      if (c == quote)
        quote = 0;
      else if (is_escape && quote == '"')
        word += text[++i];
      else
        word += c;
      continue;
    }

    // Between words.
    if (c == ' ' || c == '\t' || c == '\n') {
      if (has_word) words.push_back(std::exchange(word, {}));
      has_word = false;
      continue;
    }

    has_word = true;
    if (c == '\'' || c == '"')
      quote = c;
    else
      word += is_escape ? text[++i] : c;
  }
  if (has_word) words.push_back(word);
  return words;
}

std::vector<std::pair<std::string, std::string>> take_assignments(std::vector<std::string>& words) {
  const auto is_name = [](char c) {
    return c == '_' || std::isalnum(static_cast<unsigned char>(c)) != 0;
  };
  const auto is_assignment = [&is_name](const std::string& word) {
    const std::size_t sign = word.find('=');
    return sign != std::string::npos && sign > 0 &&
           std::isdigit(static_cast<unsigned char>(word[0])) == 0 &&
           std::all_of(word.begin(), word.begin() + static_cast<std::ptrdiff_t>(sign), is_name);
  };

  std::vector<std::pair<std::string, std::string>> assignments;
  const auto command = std::ranges::find_if_not(words, is_assignment);
  for (auto word = words.begin(); word != command; ++word)
    assignments.emplace_back(word->substr(0, word->find('=')), word->substr(word->find('=') + 1));
  words.erase(words.begin(), command);
  return assignments;
}

}  // namespace cw
