// The user's access token for the Hub: found where the Hub's own client keeps it, and never seen
// anywhere else.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace cw {

/// A secret: cannot be copied or formatted, and is wiped from memory when it goes.
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
  // Short strings lie in the object: moving one would leave a copy behind.
  void swap(Secret& other) noexcept { text_.swap(other.text_); }
  std::string text_;
};

struct Token {
  Secret secret;
  std::string origin;  ///< for messages: "HF_TOKEN", or the file
};

/// From now on this process leaves no core dump and cannot be read by others of its user (prctl(2),
/// PR_SET_DUMPABLE).
void forbid_core_dumps();

/// Takes a token out of the environment unread, for commands that start other programs and need
/// none.
void hide_token();

/// HF_TOKEN, or the file HF_TOKEN_PATH, HF_HOME/token, ~/.cache/huggingface/token: as
/// huggingface_hub looks for it. HF_TOKEN is taken out of the environment, so that no child process
/// has it. A browser's login ("stored_tokens" beside the file) that ends within a day is renewed by
/// `hf auth token`, as any command of hf renews it; `note` hears where that fails. Error codes:
/// "no_token", "login_ended".
Result<Token> find_token(const std::function<void(const std::string&)>& note);

}  // namespace cw
