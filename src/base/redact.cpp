#include "base/redact.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

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

// "HF_TOKEN", "--admin-api-key", "apiKey", "-DapiKey" -> lower-case words without trailing numbers.
std::vector<std::string> words_of(std::string_view name) {
  if (name.starts_with("-D")) name.remove_prefix(2);  // Java and CMake
  std::vector<std::string> words(1);
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool is_inner_capital = is_upper(name[i]) && i > 0 && !is_upper(name[i - 1]);
    const bool is_separator = !is_letter(name[i]) && !is_digit(name[i]);
    if ((is_inner_capital || is_separator) && !words.back().empty()) words.emplace_back();
    if (!is_separator)
      words.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
  }
  for (std::string& word : words) word.erase(word.find_last_not_of("0123456789") + 1);
  std::erase(words, "");
  return words;
}

// "HF_TOKEN_2": looks like an environment variable.
bool is_variable(std::string_view name) {
  const auto may_stand = [](char c) { return is_upper(c) || is_digit(c) || c == '_'; };
  return name.size() >= 3 && std::ranges::all_of(name, may_stand);
}

template <typename List>
bool contains(const List& list, std::string_view word) {
  return std::ranges::find(list, word) != list.end();
}

// Words that mark a secret at the end of a name or before its last word ("password hash").
constexpr std::array secret_words{"password", "passwd",     "passphrase",   "pwd",
                                  "secret",   "secrets",    "credential",   "credentials",
                                  "apikey",   "authtoken",  "accesstoken",  "bearer",
                                  "cookie",   "cookies",    "signature",    "authorization",
                                  "pat",      "connstring", "sas",          "jwt",
                                  "otp",      "privatekey", "secretkey",    "accesskey",
                                  "cred",     "creds",      "passwords",    "authkey",
                                  "privkey",  "userpass",   "clientsecret", "secretaccesskey",
                                  "passcode", "passin",     "passout"};
constexpr std::array<std::string_view, 3> contents{"value", "content", "contents"};
// "key" alone is a map key, or a tensor.
constexpr std::array before_key{
    "api",          "access",     "secret",  "private",   "auth",       "account",
    "admin",        "encryption", "signing", "master",    "license",    "shared",
    "subscription", "service",    "storage", "deploy",    "ssh",        "hmac",
    "aes",          "wandb",      "openai",  "anthropic", "ngc",        "gemini",
    "google",       "azure",      "mistral", "together",  "openrouter", "cohere",
    "groq",         "hf",         "xai",     "deepseek",  "replicate",  "session"};
// "token" alone is a secret; a tokenizer's token or a token count is not.
constexpr std::array before_token{
    "first",  "per",       "stop",   "eos",     "bos",    "pad",   "unk",   "mask", "special",
    "next",   "last",      "output", "input",   "prompt", "new",   "max",   "min",  "num",
    "total",  "each",      "to",     "end",     "start",  "image", "mm",    "sep",  "cls",
    "cached", "generated", "decode", "prefill", "time",   "of",    "think", "extra"};

// Values after a secret's name that are not secrets, such as the name of a variable that holds one.
bool is_no_secret(std::string_view value) {
  constexpr std::array<std::string_view, 10> harmless{"None",  "none", "null",  "nil", "True",
                                                      "False", "true", "false", "",    redacted};
  if (value.starts_with('$')) value.remove_prefix(1);  // expanded by the shell
  const bool is_name =
      is_variable(value) && value.find('_') != std::string_view::npos && is_secret_name(value);
  return contains(harmless, value) || is_name;
}

// Counts and shares: "token usage", "#token: 512".
bool is_number(std::string_view value) {
  return !value.empty() && value.find_first_not_of("0123456789.,%") == std::string_view::npos;
}

struct Form {
  std::string_view prefix;
  std::size_t min;  ///< characters after the prefix
};

// Secrets recognized by their prefix, from their issuers' documentation.
constexpr std::array forms{
    Form{"hf_", 12},      Form{"api_org_", 16},  Form{"sk-", 16},      Form{"sk_live_", 12},
    Form{"sk_test_", 12}, Form{"rk_live_", 12},  Form{"ghp_", 20},     Form{"gho_", 20},
    Form{"ghu_", 20},     Form{"ghs_", 20},      Form{"ghr_", 20},     Form{"github_pat_", 20},
    Form{"glpat-", 16},   Form{"gldt-", 16},     Form{"AKIA", 16},     Form{"ASIA", 16},
    Form{"AIza", 30},     Form{"ya29.", 20},     Form{"xoxb-", 10},    Form{"xoxp-", 10},
    Form{"xoxa-", 10},    Form{"xapp-", 10},     Form{"nvapi-", 20},   Form{"npm_", 30},
    Form{"pypi-", 30},    Form{"dckr_pat_", 16}, Form{"gsk_", 20},     Form{"r8_", 20},
    Form{"SG.", 20},      Form{"dop_v1_", 20},   Form{"tskey-", 12},   Form{"hvs.", 20},
    Form{"hvb.", 20},     Form{"shpat_", 20},    Form{"lin_api_", 20}, Form{"sntrys_", 20},
    Form{"dapi", 32},     Form{"eyJ", 30},       Form{"pk-lf-", 16},   Form{"sk-lf-", 16},
    Form{"cfut_", 20},    Form{"wandb_v1_", 16}, Form{"xai-", 16},     Form{"pplx-", 16},
    Form{"tvly-", 16},    Form{"rpa_", 16},      Form{"csk-", 16},     Form{"fw_", 16},
    Form{"whsec_", 16},   Form{"figd_", 16},     Form{"secret_", 20},  Form{"dckr_oat_", 16},
    Form{"glsa_", 20},
};

// Length of the secret at the start of the text, by its form; 0: none.
std::size_t length_of_form(std::string_view text) {
  for (const Form& form : forms) {
    if (!text.starts_with(form.prefix)) continue;
    std::size_t end = form.prefix.size();
    while (end < text.size() && is_name_character(text[end])) ++end;
    while (end > 0 && text[end - 1] == '.') --end;  // the end of a sentence
    const std::string_view rest = text.substr(form.prefix.size(), end - form.prefix.size());
    // A hyphenated word is not a secret: those have digits, or mixed case.
    const bool is_random =
        std::ranges::any_of(rest, is_digit) || std::ranges::any_of(rest, is_upper);
    if (rest.size() >= form.min && is_random) return end;
  }
  return 0;
}

// A PEM key, up to its end or the end of the text.
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
      const bool is_word_begin =
          at_ == 0 || at_ == coloured_until_ || !is_name_character(text_[at_ - 1]);
      if (is_word_begin && (skip(length_of_pem(rest())) || skip(length_of_form(rest())))) continue;
      if (take_user_of_url()) continue;
      if (const std::size_t end = after_colour(at_); end > at_) {
        copy(end);
        coloured_until_ = end;
        continue;
      }
      if (is_word_begin && is_name_character(text_[at_]))
        take_name();
      else
        out_ += text_[at_++];
    }
    return std::move(out_);
  }

 private:
  std::string_view rest() const { return text_.substr(at_); }
  char at(std::size_t place) const { return place < text_.size() ? text_[place] : '\0'; }

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

  // A name, and the secret after it if it is a secret's name.
  void take_name() {
    const std::size_t begin = at_;
    std::size_t end = end_of_name(at_);
    if (text_.substr(end).starts_with('>') && text_[end - 1] == '-' && end - begin > 1)
      --end;  // name->
    end = end_of_key(begin, end);
    const std::string_view name = text_.substr(begin, end - begin);
    const char before = begin > 0 ? text_[begin - 1] : '\0';
    copy(end);

    // Names that by themselves tell where the secret is.
    if (name == "Bearer" || name == "bearer" || name == "Basic")
      if (at_ < text_.size() && is_space(text_[at_])) return take_after_scheme(name);
    if (take_user_and_password(name)) return;
    if (is_beside(name) && take_value_before()) return;

    // Names of secrets.
    const bool is_pass = (name == "pass" || name == "Pass") &&
                         length_of_sign(after_spaces(at_ + length_of_quote(at_))) > 0;
    const bool is_in_query = (before == '?' || before == '&') && name == "key";
    if (!is_secret_name(name) && !is_in_query && !is_pass) return;
    if (before == '<' && take_element()) return;
    take_named(name, begin, before);
  }

  // "Bearer abc…", "Basic abc…": an HTTP scheme without a header name.
  void take_after_scheme(std::string_view name) {
    const std::size_t value = after_spaces(at_);
    if (length_of_value(value, false) < 8) return;
    copy(value);
    take_value(name);
  }

  // name=, name:, "name":, 'name' =>, --name value, '--name', 'value': the name is already copied.
  void take_named(std::string_view name, std::size_t begin, char before) {
    std::size_t next = after_colour(at_);
    const bool is_flag = name.starts_with('-') && !name.starts_with("-D");
    const std::size_t quote = length_of_quote(next);
    const std::size_t after_quote = next += quote;
    if ((quote > 0 || is_value_itself(begin)) && take_value_beside(name, next)) return;

    // <entry key="token" a="b">…</entry>
    if (quote > 0 && begin > 1 && text_[begin - 2] == '=' && (at(next) == '>' || at(next) == ' ') &&
        take_element())
      return;
    next = after_spaces(next);
    if (quote > 0 && at(next) == ']') next = after_spaces(next + 1);  // os.environ["HF_TOKEN"] = …
    const std::size_t sign = length_of_sign(next);
    const bool is_path = before == '/' && !text_.substr(next).starts_with('=');
    if (is_path) return;  // "/etc/passwd: no such file"

    // What separates the name from its value.
    if (sign > 0) {
      next = after_spaces(next + sign);
      if (take_lines_below(begin, next)) return;
      next = begin_of_quoted(next, sign);
      if (take_rest_of_line(begin, next)) return;
    } else if ((is_flag || (quote > 0 && is_quote(before))) && begins_next_item(next)) {
      return take_next_items(name, next, is_flag);
    } else if (is_flag && quote == 0 && at(next) == '\n' &&
               is_name_character(at(after_lines(next)))) {
      next = after_lines(next);  // one argument per line
      if (at(next) == '-') return;
    } else if (before == ' ' && is_variable(name) && text_.substr(0, begin).ends_with("ENV ") &&
               next > after_quote) {
      // Dockerfile: ENV NAME VALUE
    } else if (!is_flag || next == after_quote || text_.substr(next).starts_with('-')) {
      return;  // another flag
    }
    copy(next);
    take_value(name);
    if (is_flag && sign == 0 && words_of(name).front() == "api") take_more_values();
  }

  // A quoted value on the next line; Python's name: str = '…
  std::size_t begin_of_quoted(std::size_t next, std::size_t sign) const {
    if (const std::size_t below = after_lines(next); below > next && length_of_quote(below) > 0)
      next = below;
    const std::size_t type = end_of_name(next), assigned = after_spaces(type);
    const bool is_typed = sign == 1 && text_[next - 1] != '=' && type > next && assigned > type &&
                          at(assigned) == '=';
    return is_typed ? after_spaces(assigned + 1) : next;
  }

  // All items up to the next flag: some take several.
  void take_next_items(std::string_view name, std::size_t next, bool is_flag) {
    do {
      copy(after_lines(next + 1));
      take_value(name);
      next = after_spaces(std::min(at_ + length_of_quote(at_), text_.size()));
    } while (is_flag && begins_next_item(next));
  }

  // vLLM's --api-key takes several.
  void take_more_values() {
    for (std::size_t word = after_spaces(at_); word > at_ && is_name_character(at(word));
         word = after_spaces(at_)) {
      if (at(word) == '-') return;
      copy(word);
      skip(length_of_value(word, true));
    }
  }

  // <password>…</password>, <password a="b">…</password>
  bool take_element() {
    const std::size_t end = std::min(text_.find_first_of("<>", at_), text_.size());
    if (at(end) != '>' || end == at_ - 1 || text_[end - 1] == '/') return false;
    copy(end + 1);
    constexpr std::string_view literal = "<![CDATA[";
    const bool is_literal = rest().starts_with(literal);
    if (is_literal) copy(at_ + literal.size());
    const std::size_t length =
        std::min(is_literal ? text_.find("]]>", at_) : text_.find('<', at_), text_.size()) - at_;
    if (is_no_secret(text_.substr(at_, length)))
      copy(at_ + length);
    else
      skip(length);
    return true;
  }

  // "name: API_KEY", "key=token"
  bool is_value_itself(std::size_t name) const {
    const std::size_t before = name == 0 ? text_.npos : text_.find_last_not_of(" \t", name - 1);
    return before != text_.npos && (text_[before] == ':' || text_[before] == '=');
  }

  // "value", "val": holds the value of a sibling name.
  static bool is_beside(std::string_view name) {
    return name == "value" || name == "val" || name == "Value";
  }

  // {"name": "HF_TOKEN", "value": "…"}, <add key="token" value="…"/>, and "name:" and "value:" on
  // two YAML lines: the name is itself a value.
  bool take_value_beside(std::string_view name, std::size_t next) {
    std::size_t value = after_lines(next);
    const bool is_apart =
        next > at_ || at(value) == ',' || text_.substr(next, value - next).find('\n') != text_.npos;
    if (at(value) == ',') value = after_lines(value + 1);
    value += length_of_quote(value);
    const std::size_t end = end_of_name(value);
    if (!is_apart || !is_beside(text_.substr(std::min(value, text_.size()), end - value)))
      return false;
    value = end + length_of_quote(end);
    const std::size_t sign = length_of_sign(after_spaces(value));
    if (sign == 0) return false;
    copy(after_spaces(after_spaces(value) + sign));
    take_value(name);
    return true;
  }

  // The same with the value first; at_ is past the word "value".
  bool take_value_before() {
    const std::size_t sign_at = after_spaces(at_ + length_of_quote(at_)),
                      sign = length_of_sign(sign_at);
    if (sign == 0) return false;
    const std::size_t value = after_spaces(sign_at + sign), quote = length_of_quote(value);
    const std::string_view near =
        text_.substr(0, std::min(text_.size(), value + quote + longest_before + 1));
    const std::size_t end = quote > 0 ? near.find(text_.substr(value, quote), value + quote)
                                      : value + length_of_value(value, false, longest_before + 1);
    if (end >= text_.size() || end - value > longest_before) return false;

    // After it: a comma, a newline or a space, "name" or "key", a separator, and the name.
    std::size_t name = after_lines(end + quote);
    if (at(name) == ',') name = after_lines(name + 1);
    name += length_of_quote(name);
    const std::size_t name_end = end_of_name(name);
    const std::string_view label = text_.substr(std::min(name, text_.size()), name_end - name);
    if (label != "name" && label != "key" && label != "Name" && label != "Key") return false;
    std::size_t of_secret = after_spaces(name_end + length_of_quote(name_end));
    const std::size_t second_sign = length_of_sign(of_secret);
    if (second_sign == 0) return false;
    of_secret = after_spaces(of_secret + second_sign);
    of_secret += length_of_quote(of_secret);
    const std::string_view secret =
        text_.substr(std::min(of_secret, text_.size()), end_of_name(of_secret) - of_secret);
    if (!is_secret_name(secret)) return false;
    copy(value);
    take_value(secret);
    return true;
  }

  // The text before it on its line; nothing if that is long.
  std::optional<std::string_view> line_before(std::size_t at) const {
    const std::size_t first = at - std::min(at, longest_before);
    const std::string_view near = text_.substr(first, at - first);
    const std::size_t newline = near.rfind('\n');
    if (newline == near.npos && first > 0) return std::nullopt;
    return near.substr(newline + 1);  // npos + 1 is 0
  }

  // "password: several words" where a line begins with the name, and all of an Authorization value
  // except its scheme.
  bool take_rest_of_line(std::size_t name, std::size_t next) {
    const auto before = line_before(name);
    if (!before || (before->find_first_not_of(' ') != before->npos && !before->ends_with("- ")) ||
        text_[next - 1] == '=' || length_of_quote(next) > 0)
      return false;
    const std::size_t length = length_of_value(next, true);
    const std::string_view value = text_.substr(next, length);
    const std::size_t end = std::min(text_.find_first_of("\r\n\"'`", next), text_.size());
    const bool has_more =
        length > 0 && next + length < end && value.find_first_of(",;([{") == value.npos;
    if (!has_more || is_number(value) || is_no_secret(value) || is_scheme(value)) return false;
    copy(next);
    return skip(end - next);
  }

  // YAML values below their name: "token:", then on the next line, indented further, a word or the
  // lines of a block.
  bool take_lines_below(std::size_t name, std::size_t next) {
    const auto indent_of = [this](std::size_t line) {
      return std::min(text_.find_first_not_of(' ', line), text_.size()) - line;
    };
    const std::size_t newline =
        text_.substr(0, std::min(text_.size(), next + longest_before)).find('\n', next);
    if (newline == text_.npos) return false;
    const std::string_view mark = text_.substr(next, newline - next);
    const std::string_view words = mark.substr(0, mark.find('#'));
    const bool is_block = !words.empty() && (words[0] == '|' || words[0] == '>') &&
                          words.find_first_not_of("|>+-0123456789 \r") == std::string_view::npos;
    const auto before = line_before(name);
    if (!before || (!is_block && words.find_first_not_of(" \r") != std::string_view::npos))
      return false;
    const std::size_t outer = std::min(before->find_first_not_of(' '), before->size());

    bool has_any = false;
    for (std::size_t line = newline + 1; line < text_.size();) {
      const std::size_t end = std::min(text_.find('\n', line), text_.size());
      std::size_t word = line + indent_of(line);
      if (!is_block && text_.substr(word).starts_with("- ")) word += 2;  // a list item
      if (word >= end) {                                                 // an empty line
        line = end + 1;
        continue;
      }
      // A nested name stays: everything below a secret's name is secret, whatever its own name.
      const std::size_t colon = is_block ? text_.npos : text_.substr(word, end - word).find(": ");
      if (colon != text_.npos) word += colon + 2;
      const std::string_view text = text_.substr(word, end - word);
      const bool is_name = !is_block && colon == text_.npos && text.ends_with(':');
      const bool is_value = word - line > outer && (is_block || is_name || colon != text_.npos ||
                                                    text.find_first_of(": \t") == text.npos);
      if (!is_value) break;
      copy(word);
      if (is_no_secret(text) || is_number(text) || is_name)
        copy(end);
      else
        skip(end - word);
      has_any = true;
      line = end + 1;
    }
    return has_any;
  }

  // "api key", "API Key": two words, if a separator shows that a value follows.
  std::size_t end_of_key(std::size_t begin, std::size_t end) const {
    const auto words = words_of(text_.substr(begin, end - begin));
    const std::string_view rest = text_.substr(end);
    const bool is_pair =
        words.size() == 1 && contains(before_key, words[0]) &&
        (rest.starts_with(" key") || rest.starts_with(" Key") || rest.starts_with(" KEY"));
    return is_pair && length_of_sign(after_spaces(end + 4)) > 0 ? end + 4 : end;
  }

  // curl's -u user:password, -uuser:password
  bool take_user_and_password(std::string_view name) {
    if (name.starts_with("-u") && name.size() > 2 && at(at_) == ':') {
      copy(at_ + 1);
      return skip(length_of_value(at_, true));
    }
    if ((name != "-u" && name != "--user" && name != "--proxy-user") || at_ >= text_.size())
      return false;
    const std::size_t value =
        text_[at_] == '=' ? at_ + 1 : after_spaces(at_) + length_of_quote(after_spaces(at_));
    const std::size_t length = length_of_value(value, true, longest_before);
    const std::string_view user = text_.substr(std::min(value, text_.size()), length);
    const std::size_t colon = user.find(':');
    const bool is_one = colon != std::string_view::npos && colon > 0 &&
                        user.find('/') == std::string_view::npos &&
                        user.find_first_not_of("0123456789:") != std::string_view::npos;
    if (!is_one) return false;
    copy(value);
    return skip(length);
  }

  // Terminal colour codes may occur anywhere.
  std::size_t after_colour(std::size_t at) const {
    while (text_.substr(at).starts_with("\x1b[")) {
      const std::size_t end = text_.find_first_not_of("0123456789;", at + 2);
      at = end == std::string_view::npos ? text_.size() : end + 1;
    }
    return at;
  }
  std::size_t after_spaces(std::size_t at) const {
    for (;;) {
      const std::size_t before = at = after_colour(std::min(at, text_.size()));
      while (at < text_.size() && is_space(text_[at])) ++at;
      if (text_.substr(at).starts_with("\\\n")) at += 2;  // line continuation
      if (at == before) return at;
    }
  }
  std::size_t after_lines(std::size_t at) const {
    return std::min(text_.find_first_not_of(" \t\r\n", std::min(at, text_.size())), text_.size());
  }
  // Length of a quote, escaped or not: JSON within JSON.
  std::size_t length_of_quote(std::size_t at) const {
    const std::size_t quote = text_.find_first_not_of('\\', std::min(at, text_.size()));
    return quote != std::string_view::npos && is_quote(text_[quote]) ? quote + 1 - at : 0;
  }
  std::size_t end_of_name(std::size_t at) const {
    while (at < text_.size() && is_name_character(text_[at])) ++at;
    return at;
  }
  std::size_t length_of_sign(std::size_t at) const {
    for (const std::string_view sign : {"=>", "->", ":=", "+=", "?=", "==", "=", ":", "%3D", "%3d"})
      if (text_.substr(std::min(at, text_.size())).starts_with(sign)) return sign.size();
    return 0;
  }
  // In a list printed by Python or JSON: a comma, then a string that is not a flag.
  bool begins_next_item(std::size_t comma) const {
    if (comma >= text_.size() || text_[comma] != ',') return false;
    const std::size_t item = after_lines(comma + 1), quote = length_of_quote(item);
    return quote > 0 && !text_.substr(item + quote).starts_with('-');
  }

  // A flag's value is a whole word; other values end where a list item does.
  static constexpr std::string_view word_ends = " \t\r\n\"'`\x1b",
                                    value_ends = " \t\r\n\"'`\x1b,;&|()[]{}<>";

  // Up to `max`: repeated lookahead must not go far.
  std::size_t length_of_value(std::size_t begin, bool is_word,
                              std::size_t max = std::string_view::npos) const {
    if (begin >= text_.size()) return 0;
    const std::string_view rest = text_.substr(begin, max);
    return std::min(rest.find_first_of(is_word ? word_ends : value_ends), rest.size());
  }
  // Includes what follows a separator unless it is an item of its own: "p@ss,word", not "a=1,b=2".
  std::size_t length_with_separators(std::size_t begin) const {
    std::size_t end = begin + length_of_value(begin, false);
    while (end > begin && end + 1 < text_.size() &&
           std::string_view(",;&|}").find(text_[end]) != text_.npos) {
      const std::size_t more = length_of_value(end + 1, false);
      const std::string_view part = text_.substr(end + 1, more);
      if (more == 0 || part.find_first_of("=:") != part.npos) break;
      end += 1 + more;
    }
    return end - begin;
  }

  void take_value(std::string_view name) {
    // YAML's !!str …
    if (at(at_) == '!') copy(after_spaces(at_ + length_of_value(at_, true)));

    // SecretStr('…'), b'…', ('…', '…'), {'…'}
    std::size_t opening = at_;
    while (opening < text_.size() && (is_letter(text_[opening]) || text_[opening] == '_'))
      ++opening;
    const bool has_prefix =
        opening > at_ && opening < text_.size() &&
        (text_[opening] == '(' || (is_quote(text_[opening]) && opening - at_ <= 2));
    if (has_prefix) copy(opening);
    if (at(at_) == '$' && is_quote(at(at_ + 1))) copy(at_ + 1);
    if (length_of_quote(at_) > 0) {
      take_quoted();
      // A shell word continues after a quote: "a"b'c'
      const std::size_t quote = at_;
      if (is_quote(at(quote)) && (is_name_character(at(quote + 1)) ||
                                  (is_quote(at(quote + 1)) && at(quote + 1) != at(quote)))) {
        const std::size_t end = std::min(text_.find_first_of(" \t\r\n,;)]}", quote), text_.size());
        at_ = end;  // part of the same secret
      }
      return;
    }
    if (at_ < text_.size() && std::string_view("([{<").find(text_[at_]) != std::string_view::npos)
      return take_enclosed(name);

    // The scheme of an Authorization header stays; the credentials go.
    const bool is_word = name.starts_with('-');
    std::size_t length = is_word ? length_of_value(at_, true) : length_with_separators(at_);
    std::string_view value = text_.substr(at_, length);
    if (value.ends_with('\\')) value.remove_suffix(1);  // before a space, for a shell
    if (is_scheme(value) && at_ + length < text_.size() && is_space(text_[at_ + length])) {
      copy(at_ + length + 1);
      length = is_word ? length_of_value(at_, true) : length_with_separators(at_);
      value = text_.substr(at_, length);
    }
    const auto words = words_of(name);
    const bool is_cookie =
        !words.empty() && (words.back() == "cookie" || words.back() == "cookies");

    // All parts of a cookie, and of Digest credentials, which contain quotes.
    const bool is_digest = text_.substr(0, at_).ends_with("Digest ");
    if (is_cookie || is_digest)
      length =
          std::min(text_.find_first_of(is_digest ? "\r\n'`" : "\r\n\"'`", at_), text_.size()) - at_;
    if (is_no_secret(value) || is_count(name, value))
      copy(at_ + length);
    else
      skip(length);
  }

  static bool is_scheme(std::string_view value) {
    constexpr std::array schemes{"Bearer", "bearer", "Basic",     "basic", "Token", "token",
                                 "Digest", "ApiKey", "Negotiate", "NTLM",  "Key"};
    return contains(schemes, value);
  }

  static bool is_count(std::string_view name, std::string_view value) {
    const auto words = words_of(name);
    return is_number(value) && !words.empty() &&
           (words.back() == "token" || words.back() == "tokens" || words.back() == "pass");
  }

  void take_quoted() {
    std::size_t opening = length_of_quote(at_);
    if (opening == 1 && at(at_ + 1) == at(at_) && at(at_ + 2) == at(at_)) opening = 3;  // Python's
    const std::string_view quote = text_.substr(at_, opening);
    std::size_t end = at_ + opening;
    if (opening == 1)
      while (end < text_.size() && text_[end] != quote[0] && text_[end] != '\n')
        end += text_[end] == '\\' ? 2 : 1;
    else
      end = text_.find(quote, end);
    end = std::min(end, text_.size());
    const std::string_view value = text_.substr(at_ + opening, end - at_ - opening);
    if (is_no_secret(value)) return copy(end);
    out_ += quote;
    out_ += redacted;
    at_ = end;
  }

  // Everything in brackets, up to the closing one or the end of the line.
  void take_enclosed(std::string_view name) {
    const char open = text_[at_], close = open == '('   ? ')'
                                          : open == '[' ? ']'
                                          : open == '{' ? '}'
                                                        : '>';
    std::size_t end = at_ + 1;
    for (std::size_t depth = 1; end < text_.size() && text_[end] != '\n'; ++end) {
      depth = text_[end] == open ? depth + 1 : text_[end] == close ? depth - 1 : depth;
      if (depth == 0) break;
    }
    const std::string_view inside = text_.substr(at_ + 1, end - at_ - 1);
    const auto words = words_of(name);
    const bool is_functions = !words.empty() && words.back() == "signature";
    const bool is_counts = inside.find_first_not_of("0123456789.,% ") == std::string_view::npos;
    if (is_no_secret(inside) || is_counts || is_functions) return copy(end);
    out_ += open;
    out_ += redacted;
    at_ = end;
  }

  static constexpr std::size_t longest_before = 512;  ///< of a value that precedes its name

  const std::string_view text_;
  std::string out_;
  std::size_t at_ = 0, coloured_until_ = 0;
};

}  // namespace

bool is_secret_name(std::string_view name) {
  auto words = words_of(name);

  // What a secret's name holds is a secret too: "token value", "token file content".
  if (words.size() > 1 && contains(contents, words.back())) {
    words.pop_back();
    if (words.size() > 1 && words.back() == "file") words.pop_back();
  }
  const bool is_variables = is_variable(name);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view before = i > 0 ? std::string_view(words[i - 1]) : std::string_view(),
                           word = words[i];
    const bool is_last = i + 1 == words.size();
    if (contains(secret_words, word)) return true;
    if (word.ends_with("password") || word.ends_with("passwd")) return true;  // PGPASSWORD
    // In a variable, more words may follow: API_KEY_FALLBACK.
    if (word == "key" && (is_last || is_variables) && contains(before_key, before)) return true;
    if (word == "key" && is_last && is_variables && i > 0) return true;
    if (word == "keys" && is_last && before == "api") return true;
    if (word == "token" && (is_last || (is_variables && i > 0)) && !contains(before_token, before))
      return true;
    if (word == "tokens" && is_last && (i == 0 || contains(before_key, before))) return true;
    if (word == "pass" && is_last && (i > 0 || name.starts_with('-'))) return true;
    if (is_variables && is_last && word.ends_with("pass") && word != "bypass")
      return true;                               // SSHPASS
    constexpr std::string_view token = "token";  // HFTOKEN
    if (is_last && word.size() > token.size() && word.ends_with(token) &&
        !contains(before_token, word.substr(0, word.size() - token.size())))
      return true;
    if (word == "auth" && is_last) return true;
    if (word == "sig" && words.size() == 1) return true;  // in a signed URL
  }
  return false;
}

std::string redact(std::string_view text) {
  return Redactor(text).run();
}

std::vector<std::string> redact(std::vector<std::string> words) {
  bool is_secret = false;  // after a secret's flag, up to the next flag: some take several
  std::string flag;        // the previous word, if it is a flag

  for (std::string& word : words) {
    const std::string before = std::exchange(flag, word.starts_with('-') ? word + " " : "");
    const std::size_t sign = word.find('=');
    const bool is_whole =
        sign != std::string::npos && is_secret_name(std::string_view(word).substr(0, sign)) &&
        std::all_of(word.begin(), word.begin() + static_cast<std::ptrdiff_t>(sign),
                    is_name_character);

    // A value after a secret's flag.
    if (word.starts_with('-'))
      is_secret = sign == std::string::npos && is_secret_name(word);
    else if (is_secret && !is_no_secret(word)) {
      word = redacted;
      continue;
    }

    // NAME=value, or text that contains a secret.
    if (is_whole && !is_no_secret(std::string_view(word).substr(sign + 1)))
      word = word.substr(0, sign + 1) + std::string(redacted);
    else if (word.starts_with('-'))
      word = redact(std::string_view(word));
    else  // depends on the previous flag: curl's -u
      word =
          redact(std::string_view(before + word)).substr(redact(std::string_view(before)).size());
  }
  return words;
}

namespace {

// Hides every string in a secret's value.
Json hidden(Json json) {
  if (json.is_string())
    return is_no_secret(json.get_ref<const std::string&>()) ? json : Json(redacted);
  if (json.is_structured())
    for (Json& item : json) item = hidden(std::move(item));
  return json;
}

}  // namespace

Json redact(Json json) {
  if (json.is_string()) return redact(std::string_view(json.get_ref<const std::string&>()));

  if (json.is_object()) {
    // {"name": "HF_TOKEN", "value": "…"}
    const bool is_named = is_secret_name(string_member(json, "name")) ||
                          is_secret_name(string_member(json, "key")) ||
                          is_secret_name(string_member(json, "Name"));
    std::vector<std::pair<std::string, std::string>> renamed;

    // Values of secrets, and names that are secrets.
    for (auto& [name, value] : json.get_ref<Json::object_t&>()) {
      const bool is_secret =
          is_secret_name(name) || (is_named && (name == "value" || name == "Value"));
      value = is_secret ? hidden(std::move(value)) : redact(std::move(value));
      const std::string clean = redact(std::string_view(name));
      if (clean != name) renamed.emplace_back(name, clean);
    }
    for (const auto& [name, clean] : renamed) {
      Json value = std::move(json[name]);
      json.erase(name);
      json[clean] = std::move(value);
    }
  } else if (json.is_array()) {
    const bool is_text =
        std::ranges::all_of(json, [](const Json& item) { return item.is_string(); });
    if (is_text) return redact(json.get<std::vector<std::string>>());
    for (Json& item : json) item = redact(std::move(item));
  }
  return json;
}

std::string printable(const Command& command) {
  Command shown{redact(command.arguments), {}};
  for (const auto& [name, value] : command.environment)
    shown.environment.emplace_back(name, is_secret_name(name) && !is_no_secret(value)
                                             ? std::string(redacted)
                                             : redact(std::string_view(value)));
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
    const std::size_t kept = block.size(), more = static_cast<std::size_t>(std::min<std::uint64_t>(
                                               block_size, size - position));
    block.resize(kept + more);
    CW_CHECK(read_exactly(file, position, more, block.data() + kept, path.string()));
    position += more;

    // Whole lines, so that no secret is split; a line longer than a block is taken as it comes.
    const std::size_t newline = block.rfind('\n');
    const std::size_t end =
        position == size || newline == std::string::npos ? block.size() : newline + 1;
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
      std::all_of(word.begin(), word.begin() + static_cast<std::ptrdiff_t>(sign),
                  is_name_character))
    return std::string(word.substr(0, sign + 1)) + without_local_folders(word.substr(sign + 1));

  const bool is_local = word.starts_with('/') || word.starts_with("./") ||
                        word.starts_with("../") || word.starts_with("~/");
  if (!is_local || word.find_first_of(" \t\n;|&") != std::string_view::npos)
    return std::string(word);
  while (word.size() > 1 && word.ends_with('/')) word.remove_suffix(1);

  // …/models--OWNER--NAME/snapshots/REVISION
  constexpr std::string_view cached = "/models--";
  if (const std::size_t begin = word.rfind(cached); begin != std::string_view::npos) {
    std::string model(word.substr(begin + cached.size()));
    model.resize(std::min(model.find('/'), model.size()));
    if (const std::size_t dashes = model.find("--"); dashes != std::string::npos)
      model.replace(dashes, 2, "/");
    return model;
  }
  return std::string(word.substr(word.rfind('/') + 1));
}

}  // namespace cw
