#include "base/redact.h"

#include <algorithm>
#include <array>
#include <cctype>

#include <fcntl.h>

#include "base/file.h"
#include "base/output.h"

namespace cw {
namespace {

bool is_letter(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0;
}
bool is_upper(char c) {
  return std::isupper(static_cast<unsigned char>(c)) != 0;
}
bool is_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}
bool is_name_character(char c) {
  return is_letter(c) || is_digit(c) || c == '_' || c == '-' || c == '.';
}
bool is_space(char c) {
  return c == ' ' || c == '\t';
}
bool is_quote(char c) {
  return c == '"' || c == '\'' || c == '`';
}

// "HF_TOKEN", "--admin-api-key", "apiKey" -> lower-case words.
std::vector<std::string> words_of(std::string_view name) {
  std::vector<std::string> words(1);
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool is_inner_capital = is_upper(name[i]) && i > 0 && !is_upper(name[i - 1]);
    const bool is_separator = !is_letter(name[i]) && !is_digit(name[i]);
    if ((is_inner_capital || is_separator) && !words.back().empty()) words.emplace_back();
    if (!is_separator) words.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

template <typename List>
bool contains(const List& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// A word that is a secret's wherever it stands, at the end of a name or before its last word ("password hash").
constexpr std::array secret_words{
    "password", "passwd",     "passphrase",  "pwd",    "secret", "secrets",    "credential", "credentials",
    "apikey",   "authtoken",  "accesstoken", "bearer", "cookie", "cookies",    "signature",  "authorization",
    "pat",      "connstring", "sas",         "jwt",    "otp",    "privatekey", "secretkey",  "accesskey"};
// "key" alone is a key of a map, or a tensor.
constexpr std::array before_key{"api",        "access",  "secret", "private", "auth",   "account",      "admin",
                                "encryption", "signing", "master", "license", "shared", "subscription", "service",
                                "storage",    "deploy",  "ssh",    "hmac",    "aes",    "wandb",        "openai"};
// "token" alone is one; of a tokenizer's, or counted, it is none.
constexpr std::array before_token{"first",   "per",   "stop",  "eos",    "bos",       "pad",    "unk",     "mask",
                                  "special", "next",  "last",  "output", "input",     "prompt", "new",     "max",
                                  "min",     "num",   "total", "each",   "to",        "end",    "start",   "image",
                                  "mm",      "sep",   "cls",   "cached", "generated", "decode", "prefill", "time",
                                  "of",      "think", "stop",  "extra"};

// What may stand behind a secret's name and is none.
bool is_no_secret(std::string_view value) {
  constexpr std::array<std::string_view, 10> harmless{"None",  "none", "null",  "nil", "True",
                                                      "False", "true", "false", "",    redacted};
  return contains(harmless, value);
}

// Counts and shares: "token usage", "#token: 512".
bool is_number(std::string_view value) {
  return !value.empty() && value.find_first_not_of("0123456789.,%") == std::string_view::npos;
}

struct Form {
  std::string_view prefix;
  std::size_t least;  ///< characters after the prefix
};

// Secrets that are known by how they begin, from the documentation of who issues them.
constexpr std::array forms{
    Form{"hf_", 12},       Form{"api_org_", 16},    Form{"sk-", 16},    Form{"sk_live_", 12}, Form{"sk_test_", 12},
    Form{"rk_live_", 12},  Form{"ghp_", 20},        Form{"gho_", 20},   Form{"ghu_", 20},     Form{"ghs_", 20},
    Form{"ghr_", 20},      Form{"github_pat_", 20}, Form{"glpat-", 16}, Form{"gldt-", 16},    Form{"AKIA", 16},
    Form{"ASIA", 16},      Form{"AIza", 30},        Form{"ya29.", 20},  Form{"xoxb-", 10},    Form{"xoxp-", 10},
    Form{"xoxa-", 10},     Form{"xapp-", 10},       Form{"nvapi-", 20}, Form{"npm_", 30},     Form{"pypi-", 30},
    Form{"dckr_pat_", 16}, Form{"gsk_", 20},        Form{"r8_", 20},    Form{"SG.", 20},      Form{"dop_v1_", 20},
    Form{"tskey-", 12},    Form{"hvs.", 20},        Form{"hvb.", 20},   Form{"shpat_", 20},   Form{"lin_api_", 20},
    Form{"sntrys_", 20},   Form{"dapi", 32},        Form{"eyJ", 30},    Form{"pk-lf-", 16},   Form{"sk-lf-", 16},
    Form{"cfut_", 20},     Form{"wandb_v1_", 16},
};

bool is_form_character(char c) {
  return is_letter(c) || is_digit(c) || c == '_' || c == '-' || c == '.';
}

// How much of the text that begins here is a secret by its form; 0: nothing.
std::size_t length_of_form(std::string_view text) {
  for (const Form& form : forms) {
    if (!text.starts_with(form.prefix)) continue;
    std::size_t end = form.prefix.size();
    while (end < text.size() && is_form_character(text[end])) ++end;
    while (end > 0 && text[end - 1] == '.') --end;  // the end of a sentence
    const std::string_view rest = text.substr(form.prefix.size(), end - form.prefix.size());
    // A word with hyphens is none: secrets have digits, or both cases.
    const bool is_random =
        std::any_of(rest.begin(), rest.end(), is_digit) || std::any_of(rest.begin(), rest.end(), is_upper);
    if (rest.size() >= form.least && is_random) return end;
  }
  return 0;
}

// A key in PEM, up to its end or the text's.
std::size_t length_of_pem(std::string_view text) {
  constexpr std::string_view begin = "-----BEGIN ", end = "-----END ";
  if (!text.starts_with(begin)) return 0;
  const std::string_view head = text.substr(0, 80);
  if (head.find("PRIVATE KEY") == std::string_view::npos) return 0;
  const std::size_t last = text.find(end);
  if (last == std::string_view::npos) return text.size();
  const std::size_t dashes = text.find("-----", last + end.size());
  return dashes == std::string_view::npos ? text.size() : dashes + 5;
}

class Redactor {
 public:
  explicit Redactor(std::string_view text) : text_(text) { out_.reserve(text.size()); }

  std::string run() {
    while (at_ < text_.size()) {
      const bool is_word_begin = at_ == 0 || !is_name_character(text_[at_ - 1]);
      if (is_word_begin && (skip(length_of_pem(rest())) || skip(length_of_form(rest())))) continue;
      if (take_user_of_url()) continue;
      if (is_word_begin && is_name_character(text_[at_]))
        take_name();
      else
        out_ += text_[at_++];
    }
    return std::move(out_);
  }

 private:
  std::string_view rest() const { return text_.substr(at_); }

  bool skip(std::size_t length) {
    if (length == 0) return false;
    out_ += redacted;
    at_ += length;
    return true;
  }

  void copy(std::size_t end) {
    out_ += text_.substr(at_, end - at_);
    at_ = end;
  }

  // "://user:password@"
  bool take_user_of_url() {
    constexpr std::string_view scheme_end = "://";
    if (!rest().starts_with(scheme_end)) return false;
    copy(at_ + scheme_end.size());
    const std::size_t end = std::min(text_.find_first_of("/?# \t\n\"'<>", at_), text_.size());
    const std::size_t user = text_.substr(at_, end - at_).rfind('@');
    if (user == std::string_view::npos) return true;
    out_ += redacted;
    at_ += user;
    return true;
  }

  // A name, and the secret behind it if it is one's.
  void take_name() {
    std::size_t end = at_;
    while (end < text_.size() && is_name_character(text_[end])) ++end;
    const std::string_view name = text_.substr(at_, end - at_);
    copy(end);
    // "Bearer abc…", "Basic abc…": a scheme of HTTP, without a header's name.
    if ((name == "Bearer" || name == "bearer" || name == "Basic") && at_ < text_.size() && is_space(text_[at_])) {
      const std::size_t value = text_.find_first_not_of(" \t", at_);
      if (value != std::string_view::npos && length_of_value(value) >= 8) {
        copy(value);
        take_value(name);
      }
      return;
    }
    if (!is_secret_name(name)) return;

    // name=, name:, "name":, 'name' =>, --name value, '--name', 'value'
    std::size_t next = at_;
    const bool is_flag = name.starts_with('-');
    if (next < text_.size() && is_quote(text_[next])) ++next;
    const std::size_t after_quote = next;
    while (next < text_.size() && is_space(text_[next])) ++next;
    const bool has_sign = next < text_.size() && (text_[next] == '=' || text_[next] == ':');
    if (has_sign) {
      ++next;
      if (next < text_.size() && text_[next] == '>') ++next;
      while (next < text_.size() && is_space(text_[next])) ++next;
    } else if (is_flag && begins_next_item(next)) {
      next = text_.find_first_not_of(" \t", next + 1);
    } else if (!is_flag || next == after_quote) {
      return;
    } else if (next < text_.size() && text_[next] == '-') {
      return;  // another flag
    }
    copy(next);
    take_value(name);
  }

  // In a list as Python and JSON print it: a comma, and a text that is no flag.
  bool begins_next_item(std::size_t comma) const {
    if (comma >= text_.size() || text_[comma] != ',') return false;
    const std::size_t quote = text_.find_first_not_of(" \t", comma + 1);
    return quote != std::string_view::npos && is_quote(text_[quote]) && !text_.substr(quote + 1).starts_with('-');
  }

  std::size_t length_of_value(std::size_t begin) const {
    const std::size_t end = text_.find_first_of(" \t\r\n\"'`,;&|()[]{}<>", begin);
    return std::min(end, text_.size()) - begin;
  }

  void take_value(std::string_view name) {
    // The scheme of an Authorization header stays, what it carries goes.
    constexpr std::array schemes{"Bearer", "bearer", "Basic", "basic", "Token", "token", "Digest", "ApiKey"};
    if (at_ < text_.size() && is_quote(text_[at_])) return take_quoted();
    std::size_t length = length_of_value(at_);
    std::string_view value = text_.substr(at_, length);
    if (contains(schemes, value) && at_ + length < text_.size() && is_space(text_[at_ + length])) {
      copy(at_ + length + 1);
      length = length_of_value(at_);
      value = text_.substr(at_, length);
    }
    const bool is_counted = is_number(value) && words_of(name).back() == "token";
    if (is_no_secret(value) || is_counted)
      copy(at_ + length);
    else
      skip(length);
  }

  void take_quoted() {
    const char quote = text_[at_];
    std::size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote && text_[end] != '\n') end += text_[end] == '\\' ? 2 : 1;
    end = std::min(end, text_.size());
    const std::string_view value = text_.substr(at_ + 1, end - at_ - 1);
    if (is_no_secret(value)) return copy(end);
    out_ += quote;
    out_ += redacted;
    at_ = end;
  }

  const std::string_view text_;
  std::string out_;
  std::size_t at_ = 0;
};

}  // namespace

bool is_secret_name(std::string_view name) {
  const auto words = words_of(name);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view before = i > 0 ? std::string_view(words[i - 1]) : std::string_view();
    const bool is_last = i + 1 == words.size();
    if (contains(secret_words, words[i])) return true;
    if (words[i] == "key" && is_last && contains(before_key, before)) return true;
    if (words[i] == "keys" && is_last && before == "api") return true;
    if (words[i] == "token" && is_last && !contains(before_token, before)) return true;
    if (words[i] == "auth" && is_last) return true;
    if (words[i] == "sig" && words.size() == 1) return true;  // of a signed URL
  }
  return false;
}

std::string redact(std::string_view text) {
  return Redactor(text).run();
}

std::vector<std::string> redact(std::vector<std::string> words) {
  bool is_secret = false;
  for (std::string& word : words) {
    if (is_secret && !word.starts_with("--") && !is_no_secret(word))
      word = redacted;
    else
      word = redact(std::string_view(word));
    is_secret = word.starts_with('-') && word.find('=') == std::string::npos && is_secret_name(word);
  }
  return words;
}

Json redact(Json json) {
  if (json.is_string()) return redact(std::string_view(json.get_ref<const std::string&>()));
  if (json.is_object()) {
    for (auto& [name, value] : json.items()) {
      const bool is_hidden =
          is_secret_name(name) && value.is_string() && !is_no_secret(value.get_ref<const std::string&>());
      value = is_hidden ? Json(redacted) : redact(std::move(value));
    }
  } else if (json.is_array()) {
    const bool is_text = std::all_of(json.begin(), json.end(), [](const Json& item) { return item.is_string(); });
    if (is_text) return redact(json.get<std::vector<std::string>>());
    for (Json& item : json) item = redact(std::move(item));
  }
  return json;
}

std::string printable(const Command& command) {
  Command shown{redact(command.arguments), {}};
  for (const auto& [name, value] : command.environment)
    shown.environment.emplace_back(
        name, is_secret_name(name) && !is_no_secret(value) ? std::string(redacted) : redact(std::string_view(value)));
  return to_shell(shown);
}

Result<void> redact_file(const std::filesystem::path& path) {
  CW_TRY(const FileDescriptor file, open_for_reading(AT_FDCWD, path.string()));
  CW_TRY(const std::uint64_t size, file_size(file, path.string()));
  const std::filesystem::path clean = path.string() + std::string(partial_suffix);
  CW_TRY(OutputFile output, OutputFile::create(clean, Access::owner));
  std::string block;
  bool has_changed = false;
  for (std::uint64_t position = 0; position < size;) {
    const std::size_t kept = block.size(),
                      more = static_cast<std::size_t>(std::min<std::uint64_t>(block_size, size - position));
    block.resize(kept + more);
    CW_CHECK(read_exactly(file, position, more, block.data() + kept, path.string()));
    position += more;

    // Whole lines, so that no secret is cut in two; a line that is longer than a block is taken as it comes.
    const std::size_t newline = block.rfind('\n');
    const std::size_t end = position == size || newline == std::string::npos ? block.size() : newline + 1;
    const std::string text = redact(std::string_view(block).substr(0, end));
    has_changed = has_changed || text != std::string_view(block).substr(0, end);
    CW_CHECK(output.write(text));
    block.erase(0, end);
  }
  CW_CHECK(output.flush());
  std::error_code error;
  if (has_changed)
    std::filesystem::rename(clean, path, error);
  else
    std::filesystem::remove(clean, error);
  if (error) return fail("unwritable", "cannot write {}: {}", path.string(), error.message());
  return {};
}

std::string without_local_folders(std::string_view word) {
  // --flag=VALUE, NAME=VALUE
  const std::size_t sign = word.find('=');
  if (sign != std::string_view::npos &&
      std::all_of(word.begin(), word.begin() + static_cast<std::ptrdiff_t>(sign), is_name_character))
    return std::string(word.substr(0, sign + 1)) + without_local_folders(word.substr(sign + 1));

  const bool is_local =
      word.starts_with('/') || word.starts_with("./") || word.starts_with("../") || word.starts_with("~/");
  if (!is_local || word.find_first_of(" \t\n;|&") != std::string_view::npos) return std::string(word);
  while (word.size() > 1 && word.ends_with('/')) word.remove_suffix(1);

  // …/models--OWNER--NAME/snapshots/REVISION
  constexpr std::string_view cached = "/models--";
  if (const std::size_t begin = word.rfind(cached); begin != std::string_view::npos) {
    std::string model(word.substr(begin + cached.size()));
    model.resize(std::min(model.find('/'), model.size()));
    if (const std::size_t dashes = model.find("--"); dashes != std::string::npos) model.replace(dashes, 2, "/");
    return model;
  }
  return std::string(word.substr(word.rfind('/') + 1));
}

}  // namespace cw
