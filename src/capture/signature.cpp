#include "capture/signature.h"

#include <algorithm>
#include <charconv>

#include "base/hash.h"

namespace cw {
namespace {

constexpr std::size_t max_signature_length = 1 << 16;

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\n") - first + 1);
}

// Position of the first of `wanted` outside brackets and quotes, from `begin`.
std::size_t find_outside(std::string_view text, std::string_view wanted, std::size_t begin) {
  int depth = 0;
  char quote = 0;
  for (std::size_t i = begin; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0) {
      if (c == '\\') ++i;
      if (c == quote) quote = 0;
      continue;
    }
    if (depth == 0 && wanted.find(c) != std::string_view::npos) return i;
    if (c == '\'' || c == '"') quote = c;
    if (c == '(' || c == '[' || c == '{' || c == '<') ++depth;
    // "->" inside an annotation (Callable) is not a closing bracket.
    if (c == ')' || c == ']' || c == '}' || (c == '>' && (i == 0 || text[i - 1] != '-'))) --depth;
  }
  return std::string_view::npos;
}

std::optional<Value> parse_literal(std::string_view text) {
  if (text == "None") return Value{};
  if (text == "True" || text == "False") return Value{text == "True"};
  if (text.size() >= 2 && (text[0] == '\'' || text[0] == '"') && text.back() == text[0])
    return Value{std::string(text.substr(1, text.size() - 2))};
  const char* const end = text.data() + text.size();
  std::int64_t integer = 0;
  if (const auto parsed = std::from_chars(text.data(), end, integer);
      parsed.ec == std::errc() && parsed.ptr == end)
    return Value{integer};
  double real = 0;
  if (const auto parsed = std::from_chars(text.data(), end, real);
      parsed.ec == std::errc() && parsed.ptr == end)
    return Value{real};
  return std::nullopt;  // an enum, a dtype: <Fp8QuantizationType.DeepSeekFp8: 1>
}

bool is_identifier(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c >= 0x80;
  });
}

}  // namespace

Result<std::string> Signature::positional(std::size_t index) const {
  std::size_t position = 0;
  for (const Parameter& parameter : parameters) {
    if (parameter.kind == Parameter::Kind::variadic) return fmt::format("*{}", index - position);
    if (parameter.kind != Parameter::Kind::positional) break;
    if (position == index) return parameter.name;
    ++position;
  }
  return fail("signature_mismatch",
              "the signature takes {} positional arguments, the call has more", position);
}

const Parameter* Signature::find(std::string_view name) const {
  const auto found =
      std::ranges::find_if(parameters, [name](const Parameter& p) { return p.name == name; });
  return found == parameters.end() ? nullptr : &*found;
}

Result<Signature> parse_signature(std::string_view text) {
  text = trim(text);
  if (text.size() > max_signature_length || text.empty() || text[0] != '(')
    return fail("signature_malformed", "'{}' is not a signature", text.substr(0, 80));
  const std::size_t close = find_outside(text, ")", 1);
  if (close == std::string_view::npos)
    return fail("signature_malformed", "'{}…' has no closing parenthesis", text.substr(0, 80));
  const std::string_view list = text.substr(1, close - 1);

  Signature signature{.parameters = {}, .digest = xxh3_64(text)};
  auto kind = Parameter::Kind::positional;
  for (std::size_t begin = 0; begin < list.size();) {
    std::size_t end = find_outside(list, ",", begin);
    if (end == std::string_view::npos) end = list.size();
    std::string_view item = trim(list.substr(begin, end - begin));
    begin = end + 1;
    if (item == "/" || item.empty()) continue;
    if (item == "*") {
      kind = Parameter::Kind::keyword_only;
      continue;
    }
    Parameter parameter{.kind = kind};
    if (item.starts_with("**")) {
      parameter.kind = Parameter::Kind::variadic_keyword;
      item.remove_prefix(2);
    } else if (item.starts_with("*")) {
      parameter.kind = Parameter::Kind::variadic;
      kind = Parameter::Kind::keyword_only;
      item.remove_prefix(1);
    }
    const std::size_t equals = find_outside(item, "=", 0);
    if (equals != std::string_view::npos) {
      parameter.default_value = parse_literal(trim(item.substr(equals + 1)));
      item = item.substr(0, equals);
    }
    parameter.name = trim(item.substr(0, find_outside(item, ":", 0)));
    if (!is_identifier(parameter.name))
      return fail("signature_malformed", "'{}' is not a parameter name", parameter.name);
    signature.parameters.push_back(std::move(parameter));
  }
  return signature;
}

}  // namespace cw
