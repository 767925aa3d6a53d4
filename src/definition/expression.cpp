#include "definition/expression.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace cw {

struct Expression::Node {
  enum class Kind {
    literal,
    name,
    call,
    either,
    both,
    negation,
    comparison,
    arithmetic,
    minus,
    shape,
    item,
    element,
  };
  Kind kind;
  Operand value{};         // literal
  std::string text{};      // name, function, operator
  std::int64_t index = 0;  // element
  std::vector<std::shared_ptr<const Node>> children{};
};

namespace {

using Node = Expression::Node;
using NodePtr = std::shared_ptr<const Node>;
using Kind = Node::Kind;

// Inputs come from files; no real constraint nests deeper than this.
constexpr int max_depth = 64;
constexpr std::size_t max_length = 4096;

bool starts_name(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) || c == '_';
}
bool continues_name(char c) {
  return starts_name(c) || std::isdigit(static_cast<unsigned char>(c));
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<NodePtr> parse() {
    CW_TRY(NodePtr node, disjunction());
    skip_space();
    if (at_ != text_.size()) return error("an operator or the end");
    return node;
  }

 private:
  struct Depth {
    explicit Depth(int& depth) : depth_(depth) { ++depth_; }
    ~Depth() { --depth_; }
    int& depth_;
  };

  tl::unexpected<Error> error(std::string_view wanted) const {
    return fail("expression_syntax", "'{}': expected {} at column {}", text_, wanted, at_ + 1);
  }

  void skip_space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }

  bool symbol(std::string_view wanted) {
    skip_space();
    if (!text_.substr(at_).starts_with(wanted)) return false;
    at_ += wanted.size();
    return true;
  }

  bool word(std::string_view wanted) {
    skip_space();
    const std::size_t end = at_ + wanted.size();
    if (!text_.substr(at_).starts_with(wanted)) return false;
    if (end < text_.size() && continues_name(text_[end])) return false;
    at_ = end;
    return true;
  }

  static NodePtr make(Node node) { return std::make_shared<const Node>(std::move(node)); }

  Result<NodePtr> disjunction() {
    const Depth depth(depth_);
    if (depth_ > max_depth) return error("less nesting");
    CW_TRY(NodePtr left, conjunction());
    while (word("or")) {
      CW_TRY(NodePtr right, conjunction());
      left = make({.kind = Kind::either, .children = {left, right}});
    }
    return left;
  }

  Result<NodePtr> conjunction() {
    CW_TRY(NodePtr left, negation());
    while (word("and")) {
      CW_TRY(NodePtr right, negation());
      left = make({.kind = Kind::both, .children = {left, right}});
    }
    return left;
  }

  Result<NodePtr> negation() {
    const Depth depth(depth_);
    if (depth_ > max_depth) return error("less nesting");
    if (!word("not")) return comparison();
    CW_TRY(NodePtr operand, negation());
    return make({.kind = Kind::negation, .children = {operand}});
  }

  std::string_view comparison_operator() {
    for (const std::string_view op : {"==", "!=", "<=", ">=", "<", ">"})
      if (symbol(op)) return op;
    if (!word("is")) return "";
    return word("not") ? "is not" : "is";
  }

  Result<NodePtr> comparison() {
    CW_TRY(NodePtr left, sum());
    NodePtr all;
    for (std::string_view op = comparison_operator(); !op.empty(); op = comparison_operator()) {
      CW_TRY(NodePtr right, sum());
      NodePtr one =
          make({.kind = Kind::comparison, .text = std::string(op), .children = {left, right}});
      all = all ? make({.kind = Kind::both, .children = {all, one}}) : one;
      left = right;  // a < b < c
    }
    return all ? all : left;
  }

  Result<NodePtr> sum() {
    CW_TRY(NodePtr left, product());
    for (;;) {
      const char* op = symbol("+") ? "+" : symbol("-") ? "-" : nullptr;
      if (op == nullptr) return left;
      CW_TRY(NodePtr right, product());
      left = make({.kind = Kind::arithmetic, .text = op, .children = {left, right}});
    }
  }

  Result<NodePtr> product() {
    CW_TRY(NodePtr left, unary());
    for (;;) {
      const char* op = symbol("*")    ? "*"
                       : symbol("//") ? "//"
                       : symbol("/")  ? "/"
                       : symbol("%")  ? "%"
                                      : nullptr;
      if (op == nullptr) return left;
      CW_TRY(NodePtr right, unary());
      left = make({.kind = Kind::arithmetic, .text = op, .children = {left, right}});
    }
  }

  Result<NodePtr> unary() {
    const Depth depth(depth_);
    if (depth_ > max_depth) return error("less nesting");
    if (!symbol("-")) return postfix();
    CW_TRY(NodePtr operand, unary());
    return make({.kind = Kind::minus, .children = {operand}});
  }

  Result<NodePtr> postfix() {
    CW_TRY(NodePtr node, atom());
    for (;;) {
      if (symbol(".shape")) {
        node = make({.kind = Kind::shape, .children = {node}});
      } else if (symbol(".item()")) {
        node = make({.kind = Kind::item, .children = {node}});
      } else if (symbol("[")) {
        CW_TRY(const std::int64_t index, subscript());
        node = make({.kind = Kind::element, .index = index, .children = {node}});
      } else {
        return node;
      }
    }
  }

  Result<std::int64_t> subscript() {
    const bool negative = symbol("-");
    skip_space();
    std::int64_t index = 0;
    const auto [end, bad] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), index);
    if (bad != std::errc() || index < 0) return error("an integer");
    at_ = static_cast<std::size_t>(end - text_.data());
    if (!symbol("]")) return error("']'");
    return negative ? -index : index;
  }

  Result<NodePtr> atom() {
    skip_space();
    if (symbol("(")) {
      CW_TRY(NodePtr node, disjunction());
      if (!symbol(")")) return error("')'");
      return node;
    }
    if (at_ == text_.size()) return error("a value");
    const char c = text_[at_];
    if (c == '\'' || c == '"') return string(c);
    if (std::isdigit(static_cast<unsigned char>(c)) || c == '.') return number();
    if (starts_name(c)) return name();
    return error("a value");
  }

  Result<NodePtr> string(char quote) {
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) return error("a closing quote");
    const std::string content(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return make({.kind = Kind::literal, .value = content});
  }

  Result<NodePtr> number() {
    const char* const begin = text_.data() + at_;
    const char* const end = text_.data() + text_.size();
    double real = 0;
    std::int64_t integer = 0;
    const auto as_real = std::from_chars(begin, end, real);
    const auto as_int = std::from_chars(begin, end, integer);
    if (as_real.ec != std::errc()) return error("a number");
    at_ += static_cast<std::size_t>(as_real.ptr - begin);
    if (as_int.ec == std::errc() && as_int.ptr == as_real.ptr)
      return make({.kind = Kind::literal, .value = integer});
    return make({.kind = Kind::literal, .value = real});
  }

  Result<NodePtr> name() {
    if (word("None")) return make({.kind = Kind::literal});
    if (word("True")) return make({.kind = Kind::literal, .value = true});
    if (word("False")) return make({.kind = Kind::literal, .value = false});
    const std::size_t begin = at_;
    while (at_ < text_.size() && continues_name(text_[at_])) ++at_;
    // A dotted name ends before `.shape` and `.item()`, which are operators.
    while (at_ + 1 < text_.size() && text_[at_] == '.' && starts_name(text_[at_ + 1])) {
      std::size_t end = at_ + 1;
      while (end < text_.size() && continues_name(text_[end])) ++end;
      const std::string_view part = text_.substr(at_ + 1, end - at_ - 1);
      if (part == "shape" || part == "item") break;
      at_ = end;
    }
    std::string text(text_.substr(begin, at_ - begin));
    if (!symbol("(")) return make({.kind = Kind::name, .text = std::move(text)});
    return call(std::move(text));
  }

  Result<NodePtr> call(std::string function) {
    static constexpr std::string_view known[] = {"sqrt", "len", "min", "max", "given"};
    if (std::find(std::begin(known), std::end(known), function) == std::end(known))
      return error("one of sqrt, len, min, max, given before '('");
    Node node{.kind = Kind::call, .text = std::move(function)};
    do {
      CW_TRY(NodePtr argument, disjunction());
      node.children.push_back(std::move(argument));
    } while (symbol(","));
    if (!symbol(")")) return error("')'");
    const bool many = node.text == "min" || node.text == "max";
    if (!many && node.children.size() != 1) return error("one argument");
    if (node.text == "given" && node.children[0]->kind != Kind::name)
      return error("a name in given()");
    return make(std::move(node));
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

template <typename... Args>
tl::unexpected<Error> type_error(fmt::format_string<Args...> format, Args&&... args) {
  return fail("expression_type", format, std::forward<Args>(args)...);
}

bool is_integral(const Operand& value) {
  return std::holds_alternative<std::int64_t>(value) || std::holds_alternative<bool>(value);
}

Result<Operand> integer_arithmetic(char op, bool floor_division, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflow = false;
  if (op == '+') overflow = __builtin_add_overflow(a, b, &result);
  if (op == '-') overflow = __builtin_sub_overflow(a, b, &result);
  if (op == '*') overflow = __builtin_mul_overflow(a, b, &result);
  if (op == '%' || floor_division) {
    if (b == 0) return type_error("division by zero");
    if (b == -1)
      return floor_division ? integer_arithmetic('-', false, 0, a) : Operand(std::int64_t{0});
    std::int64_t quotient = a / b;
    if (a % b != 0 && ((a < 0) != (b < 0))) --quotient;  // Python rounds towards minus infinity
    result = floor_division ? quotient : a - quotient * b;
  }
  if (overflow) return type_error("{} {} {} leaves 64 bits", a, op, b);
  return Operand(result);
}

Result<Operand> arithmetic(std::string_view op, const Operand& left, const Operand& right) {
  if (is_none(left) || is_none(right)) return Operand();
  if (is_integral(left) && is_integral(right) && op != "/")
    return integer_arithmetic(op[0], op == "//", *as_integer(left), *as_integer(right));
  const auto a = as_number(left), b = as_number(right);
  if (!a || !b) return type_error("cannot compute {} {} {}", describe(left), op, describe(right));
  if (op == "+") return Operand(*a + *b);
  if (op == "-") return Operand(*a - *b);
  if (op == "*") return Operand(*a * *b);
  if (*b == 0) return type_error("division by zero");
  if (op == "/") return Operand(*a / *b);
  const double quotient = std::floor(*a / *b);
  return Operand(op == "//" ? quotient : *a - quotient * *b);
}

bool equal(const Operand& left, const Operand& right) {
  if (is_integral(left) && is_integral(right)) return as_integer(left) == as_integer(right);
  const auto a = as_number(left), b = as_number(right);
  if (a && b) return *a == *b;
  if (left.index() != right.index()) return false;
  if (const auto* text = std::get_if<std::string>(&left))
    return *text == std::get<std::string>(right);
  if (const auto* shape = std::get_if<Shape>(&left)) return *shape == std::get<Shape>(right);
  return is_none(left);
}

Result<Operand> compare(std::string_view op, const Operand& left, const Operand& right) {
  if (op == "==" || op == "is") return Operand(equal(left, right));
  if (op == "!=" || op == "is not") return Operand(!equal(left, right));
  const auto a = as_number(left), b = as_number(right);
  if (!a || !b) return type_error("cannot compare {} {} {}", describe(left), op, describe(right));
  if (op == "<") return Operand(*a < *b);
  if (op == "<=") return Operand(*a <= *b);
  if (op == ">") return Operand(*a > *b);
  return Operand(*a >= *b);
}

Result<Operand> element_of(const Operand& value, std::int64_t index) {
  const auto position = [index](std::size_t size) -> std::optional<std::size_t> {
    const std::int64_t at = index < 0 ? index + static_cast<std::int64_t>(size) : index;
    if (at < 0 || at >= static_cast<std::int64_t>(size)) return std::nullopt;
    return static_cast<std::size_t>(at);
  };

  // On a shape: the extent of an axis.
  if (const auto* shape = std::get_if<Shape>(&value)) {
    const auto at = position(shape->size());
    if (!at) return type_error("a shape of {} axes has no axis {}", shape->size(), index);
    return Operand((*shape)[*at]);
  }

  // On a tensor: a value, which has to be read.
  const auto* tensor = std::get_if<TensorOperand>(&value);
  if (tensor == nullptr || tensor->shape.size() != 1)
    return type_error("{} has no single element [{}]", describe(value), index);
  if (tensor->no_extents) {
    // The first and the last element are there, though perhaps not their values.
    if (tensor->has_elements && (index == 0 || index == -1)) CW_CHECK(tensor->values());
    return tl::unexpected(tensor->no_extents());
  }
  const auto at = position(static_cast<std::size_t>(tensor->shape[0]));
  if (!at) return type_error("{} has no element [{}]", describe(value), index);

  CW_TRY(const auto values, tensor->values());
  if (is_integer(values->dtype)) return Operand(integer_at(values->dtype, values->bytes, *at));
  const auto number = number_at(values->dtype, values->bytes, *at);
  if (!number) return type_error("elements of {} are not numbers here", describe(value));
  return Operand(*number);
}

Result<Operand> item_of(const Operand& value) {
  const auto* tensor = std::get_if<TensorOperand>(&value);
  if (tensor == nullptr) {
    if (as_number(value)) return value;
    return type_error("{} has no .item()", describe(value));
  }
  if (tensor->no_extents) return tl::unexpected(tensor->no_extents());
  if (element_count(tensor->shape) != 1)
    return type_error("{} has more than one item", describe(value));
  TensorOperand flat = *tensor;
  flat.shape = {1};
  return element_of(Operand(std::move(flat)), 0);
}

Result<Operand> length_of(const Operand& value) {
  if (const auto* text = std::get_if<std::string>(&value))
    return Operand(static_cast<std::int64_t>(text->size()));
  if (const auto* shape = std::get_if<Shape>(&value))
    return Operand(static_cast<std::int64_t>(shape->size()));
  const auto* tensor = std::get_if<TensorOperand>(&value);
  if (tensor != nullptr && tensor->no_extents) return tl::unexpected(tensor->no_extents());
  if (tensor != nullptr && !tensor->shape.empty()) return Operand(tensor->shape[0]);
  return type_error("{} has no length", describe(value));
}

class Evaluator {
 public:
  explicit Evaluator(const NameResolver& names) : names_(names) {}

  Result<Operand> operator()(const Node& node) const {
    switch (node.kind) {
      case Kind::literal:
        return node.value;
      case Kind::name:
        return names_.value_of(node.text);
      case Kind::call:
        return call(node);
      case Kind::either:
      case Kind::both: {
        CW_TRY(Operand left, (*this)(*node.children[0]));
        const bool decided = truth(left) == (node.kind == Kind::either);
        if (decided) return left;
        return (*this)(*node.children[1]);
      }
      case Kind::negation: {
        CW_TRY(const Operand value, (*this)(*node.children[0]));
        return Operand(!truth(value));
      }
      case Kind::minus: {
        CW_TRY(const Operand value, (*this)(*node.children[0]));
        return arithmetic("-", Operand(std::int64_t{0}), value);
      }
      case Kind::shape: {
        CW_TRY(const Operand value, (*this)(*node.children[0]));
        const auto* tensor = std::get_if<TensorOperand>(&value);
        if (tensor == nullptr) return type_error("{} has no shape", describe(value));
        if (tensor->no_extents) return tl::unexpected(tensor->no_extents());
        return Operand(tensor->shape);
      }
      case Kind::item: {
        CW_TRY(const Operand value, (*this)(*node.children[0]));
        return item_of(value);
      }
      case Kind::element: {
        CW_TRY(const Operand value, (*this)(*node.children[0]));
        return element_of(value, node.index);
      }
      case Kind::comparison:
      case Kind::arithmetic:
        break;
    }

    CW_TRY(const Operand left, (*this)(*node.children[0]));
    CW_TRY(const Operand right, (*this)(*node.children[1]));
    return node.kind == Kind::comparison ? compare(node.text, left, right)
                                         : arithmetic(node.text, left, right);
  }

 private:
  Result<Operand> call(const Node& node) const {
    if (node.text == "given") return Operand(names_.is_given(node.children[0]->text));
    CW_TRY(Operand result, (*this)(*node.children[0]));
    if (node.text == "len") return length_of(result);
    if (node.text == "sqrt") {
      if (is_none(result)) return result;
      const auto number = as_number(result);
      if (!number || *number < 0) return type_error("cannot take sqrt({})", describe(result));
      return Operand(std::sqrt(*number));
    }
    for (std::size_t i = 1; i < node.children.size(); ++i) {
      CW_TRY(Operand other, (*this)(*node.children[i]));
      CW_TRY(const Operand less, compare("<", other, result));
      if (truth(less) == (node.text == "min")) result = std::move(other);
    }
    return result;
  }

  const NameResolver& names_;
};

bool evaluates_everything(const Node& node) {
  const bool divides =
      node.kind == Kind::arithmetic && (node.text.starts_with('/') || node.text == "%");
  if (node.kind == Kind::either || node.kind == Kind::both || divides) return false;
  return std::ranges::all_of(node.children,
                             [](const auto& child) { return evaluates_everything(*child); });
}

bool mentions(const Node& node, std::string_view name) {
  return (node.kind == Kind::name && node.text == name) ||
         std::ranges::any_of(node.children,
                             [name](const auto& child) { return mentions(*child, name); });
}

void collect_names(const Node& node, std::vector<std::string>& names) {
  if (node.kind == Kind::name) names.push_back(node.text);
  for (const auto& child : node.children) collect_names(*child, names);
}

}  // namespace

bool truth(const Operand& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag;
  if (const auto number = as_number(value)) return *number != 0;
  if (const auto* text = std::get_if<std::string>(&value)) return !text->empty();
  if (const auto* shape = std::get_if<Shape>(&value)) return !shape->empty();
  return !is_none(value);
}

bool is_none(const Operand& value) {
  return std::holds_alternative<std::monostate>(value);
}

std::string describe(const Operand& value) {
  if (is_none(value)) return "None";
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "True" : "False";
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return fmt::format("{}", *integer);
  if (const auto* real = std::get_if<double>(&value)) return fmt::format("{}", *real);
  if (const auto* text = std::get_if<std::string>(&value)) return fmt::format("'{}'", *text);
  if (const auto* shape = std::get_if<Shape>(&value)) return to_string(*shape);
  const auto& tensor = std::get<TensorOperand>(value);
  if (tensor.no_extents) return fmt::format("{}", tensor.no_extents().message);
  return fmt::format("a tensor {} {}", trace_name(tensor.dtype), to_string(tensor.shape));
}

std::optional<std::int64_t> as_integer(const Operand& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  if (const auto* real = std::get_if<double>(&value))
    if (*real == std::floor(*real) && std::abs(*real) < 9e15)
      return static_cast<std::int64_t>(*real);
  return std::nullopt;
}

std::optional<double> as_number(const Operand& value) {
  if (const auto* real = std::get_if<double>(&value)) return *real;
  if (const auto integer = as_integer(value)) return static_cast<double>(*integer);
  return std::nullopt;
}

Result<Expression> Expression::parse(std::string_view text) {
  if (text.size() > max_length)
    return fail("expression_syntax", "an expression of {} characters is too long", text.size());
  Expression expression;
  expression.text_ = text;
  CW_TRY(expression.root_, Parser(text).parse());
  return expression;
}

Result<Operand> Expression::evaluate(const NameResolver& names) const {
  return Evaluator(names)(*root_);
}

bool Expression::mentions(std::string_view name) const {
  return cw::mentions(*root_, name);
}

bool Expression::evaluates_everything() const {
  return cw::evaluates_everything(*root_);
}

std::vector<std::string> Expression::names() const {
  std::vector<std::string> names;
  collect_names(*root_, names);
  return names;
}

}  // namespace cw
