// The user's access token for the Hub: found where the Hub's own client keeps it, and never exposed
// anywhere else.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace cw {

/// A secret: cannot be copied or formatted, and is wiped from memory on destruction.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_(std::move(text)) {}
  Secret(Secret&& other) noexcept { swap(other); }
  Secret& operator=(Secret&& other) noexcept {
    swap(other);
    return *this;
  }
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret();

  bool is_empty() const { return text_.empty(); }
  std::string_view reveal() const { return text_; }

 private:
  // Short strings are stored inline: moving one would leave a copy behind.
  void swap(Secret& other) noexcept { text_.swap(other.text_); }
  std::string text_;
};

struct Token {
  Secret secret;
  std::string origin;  ///< for messages: "HF_TOKEN", or the file
};

/// From now on this process leaves no core dump and cannot be read by the user's other processes
/// (prctl(2), PR_SET_DUMPABLE).
void forbid_core_dumps();

/// Removes a token from the environment unread, for commands that start other programs and need
/// none.
void hide_token();

/// HF_TOKEN, or the file HF_TOKEN_PATH, HF_HOME/token, ~/.cache/huggingface/token: as
/// huggingface_hub looks for it. HF_TOKEN is removed from the environment, so that no child process
/// has it. A browser login ("stored_tokens" beside the file) that expires within a day is renewed
/// by `hf auth token`, as by any hf command; `note` is called if that fails. Error codes:
/// "no_token", "login_ended".
Result<Token> find_token(const std::function<void(const std::string&)>& note);

}  // namespace cw
