#include "bind/binding.h"

#include <algorithm>
#include <charconv>

#include <fcntl.h>

#include "base/file.h"
#include "base/yaml.h"

namespace cw {
namespace {

constexpr std::size_t max_bindings_file = 16 << 20;

struct Invalid {
  std::string message;
};

Expression parse_expression(const std::string& text) {
  auto expression = Expression::parse(text);
  if (!expression) throw Invalid{expression.error().message};
  return std::move(*expression);
}

std::vector<std::string> strings(const YAML::Node& node) {
  if (!node) return {};
  if (node.IsScalar()) return {node.as<std::string>()};
  return node.as<std::vector<std::string>>();
}

void allow_only(const YAML::Node& node, std::initializer_list<std::string_view> known) {
  if (!node.IsMap()) throw Invalid{"expected a mapping"};
  if (const auto name = unknown_field(node, known))
    throw Invalid{"unknown field '" + name->as<std::string>() + "'"};
}

std::int64_t parse_number(std::string_view text) {
  std::int64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size())
    throw Invalid{"expected a number, got '" + std::string(text) + "'"};
  return number;
}

// Two expressions, with words before and between them.
void parse_two(const std::string& usage, std::string_view before, std::string_view between,
               std::string_view text, Transform& transform) {
  const std::size_t middle = text.find(between);
  if (!text.starts_with(before) || middle == std::string_view::npos || middle < before.size())
    throw Invalid{"two expressions are needed: " + usage};
  transform.argument =
      parse_expression(std::string(text.substr(before.size(), middle - before.size())));
  transform.second_argument = parse_expression(std::string(text.substr(middle + between.size())));
}

Transform parse_transform(const std::string& text) {
  using Kind = Transform::Kind;
  static const std::map<std::string, Kind> kinds{
      {"part", Kind::part},
      {"kv_half", Kind::kv_half},
      {"first", Kind::first},
      {"slice", Kind::slice},
      {"rebase", Kind::rebase},
      {"drop_axis", Kind::drop_axis},
      {"slice_last", Kind::slice_last},
      {"flatten_rows", Kind::flatten_rows},
      {"split_last", Kind::split_last},
      {"unpack_fp4", Kind::unpack_fp4},
      {"last_page_len", Kind::last_page_len},
      {"page_indptr", Kind::page_indptr},
      {"pages", Kind::pages},
      {"expert_ids", Kind::expert_ids},
      {"broadcast", Kind::broadcast},
  };

  const std::size_t space = text.find(' ');
  const auto kind = kinds.find(text.substr(0, space));
  if (kind == kinds.end()) throw Invalid{"unknown transform '" + text + "'"};
  const std::string argument = space == std::string::npos ? "" : text.substr(space + 1);

  // Its argument.
  Transform transform{.kind = kind->second};
  switch (transform.kind) {
    case Kind::part:
    case Kind::kv_half:
      transform.first_number = parse_number(argument);
      if (transform.first_number != 0 && transform.first_number != 1)
        throw Invalid{"'" + text + "': a pair has elements 0 and 1"};
      break;
    case Kind::drop_axis:
    case Kind::slice_last: {
      const std::size_t middle = argument.find(' ');
      if (middle == std::string::npos) throw Invalid{"'" + text + "' needs two numbers"};
      transform.first_number = parse_number(std::string_view(argument).substr(0, middle));
      transform.second_number = parse_number(std::string_view(argument).substr(middle + 1));
      break;
    }
    case Kind::first:
    case Kind::split_last:
    case Kind::last_page_len:
    case Kind::page_indptr:
    case Kind::broadcast:
      transform.argument = parse_expression(argument);
      break;
    case Kind::slice:
      parse_two("slice A to B", "", " to ", argument, transform);
      break;
    case Kind::pages:
      parse_two("pages of A by B", "of ", " by ", argument, transform);
      break;
    case Kind::rebase:
    case Kind::flatten_rows:
    case Kind::unpack_fp4:
    case Kind::expert_ids:
      break;
  }
  return transform;
}

OtherTypes parse_other_types(const std::string& text) {
  if (text == "cast") return OtherTypes::cast;
  if (text == "half") return OtherTypes::half;
  if (text == "any") return OtherTypes::any;
  throw Invalid{"dtype is 'cast', 'half' or 'any'"};
}

InputBinding parse_input(const std::string& name, const YAML::Node& node) {
  allow_only(node, {"from", "or", "via", "steers", "dtype", "value", "default", "cite"});
  InputBinding input{.name = name};

  if (node["from"]) input.from = node["from"].as<std::string>();
  if (const YAML::Node other = node["or"]) {
    allow_only(other, {"from", "via"});
    input.other_from = other["from"].as<std::string>();
    for (const std::string& step : strings(other["via"]))
      input.other_transforms.push_back(parse_transform(step));
  }
  for (const std::string& step : strings(node["via"]))
    input.transforms.push_back(parse_transform(step));
  input.is_structural = node["steers"].as<bool>(false);
  if (node["dtype"]) input.other_types = parse_other_types(node["dtype"].as<std::string>());
  if (input.is_structural && input.other_types == OtherTypes::half)
    throw Invalid{"values that steer are not converted between halves"};

  if (node["value"]) input.value = parse_expression(node["value"].as<std::string>());
  if (node["default"]) {
    input.default_value = parse_expression(node["default"].as<std::string>());
    if (!node["cite"]) throw Invalid{"a default needs 'cite': the documentation that says so"};
  }
  input.cite = node["cite"].as<std::string>("");

  if (input.from.empty() == !input.value.has_value())
    throw Invalid{"needs one of 'from' and 'value'"};
  return input;
}

IndexCheck parse_check(const YAML::Node& node) {
  using Kind = IndexCheck::Kind;
  static const std::map<std::string, Kind> kinds{
      {"indptr", Kind::indptr},
      {"indices", Kind::indices},
      {"indices_or_pad", Kind::indices_or_pad},
      {"last_page_len", Kind::last_page_len},
      {"one_each", Kind::one_each},
      {"lengths", Kind::lengths},
      {"causal_lengths", Kind::causal_lengths},
  };

  if (!node.IsMap() || node.size() == 0) throw Invalid{"a check is a mapping, {indptr: kv_indptr}"};
  const auto name = node.begin()->first.as<std::string>();
  const auto kind = kinds.find(name);
  if (kind == kinds.end()) throw Invalid{"unknown check '" + name + "'"};
  allow_only(node, {name, "of", "last_page", "below", "up_to"});

  IndexCheck check{.kind = kind->second, .subject = node.begin()->second.as<std::string>()};
  check.other = node["of"].as<std::string>("");
  check.last_page = node["last_page"].as<std::string>("");
  if (node["below"]) check.limit = parse_expression(node["below"].as<std::string>());
  if (node["up_to"]) check.limit = parse_expression(node["up_to"].as<std::string>());

  // Exactly what the kind needs.
  const bool wants_other = check.kind == Kind::lengths || check.kind == Kind::causal_lengths ||
                           check.kind == Kind::last_page_len;
  const bool wants_limit = check.kind == Kind::indices || check.kind == Kind::indices_or_pad ||
                           check.kind == Kind::last_page_len;
  if (wants_other == check.other.empty() || wants_limit != check.limit.has_value())
    throw Invalid{"check '" + name + "' needs " +
                  (wants_other   ? "'of'"
                   : wants_limit ? "'below' or 'up_to'"
                                 : "nothing more")};
  return check;
}

// What it is for, and which calls it reads.
void parse_purpose(const YAML::Node& node, Binding& binding) {
  binding.id = node["id"].as<std::string>();
  binding.op_type = node["op_type"].as<std::string>();
  binding.needs = strings(node["needs"]);
  binding.lacks = strings(node["lacks"]);
  binding.apis = strings(node["apis"]);
  binding.unbindable = node["unbindable"].as<std::string>("");
  binding.note = node["note"].as<std::string>("");
  binding.function = node["function"].as<std::string>("");
  binding.plan_function = node["plan"].as<std::string>("");
  binding.init_function = node["init"].as<std::string>("");
  binding.module_contains = node["module"].as<std::string>("");
  if (binding.function.empty() == binding.unbindable.empty())
    throw Invalid{"needs one of 'function' and 'unbindable'"};
}

// Where inputs and axes come from.
void parse_sources(const YAML::Node& node, Binding& binding) {
  for (const auto& role : node["positional"])
    binding.positional[role.first.as<std::string>()] = strings(role.second);
  for (const auto& input : node["inputs"]) {
    const auto name = input.first.as<std::string>();
    try {
      binding.inputs.push_back(parse_input(name, input.second));
    } catch (const Invalid& error) {
      throw Invalid{"input " + name + ": " + error.message};
    }
  }

  for (const auto& axis : node["axes"])
    for (const std::string& expression : strings(axis.second))
      binding.axes.emplace_back(axis.first.as<std::string>(), parse_expression(expression));
  for (const auto& constant : node["constants"]) {
    allow_only(constant.second, {"name", "reference"});
    const bool in_reference = static_cast<bool>(constant.second["reference"]);
    binding.constants.push_back(
        {constant.first.as<std::string>(), in_reference,
         constant.second[in_reference ? "reference" : "name"].as<std::string>()});
  }
}

Beside parse_beside(const YAML::Node& node) {
  allow_only(node, {"function", "same", "when", "neighbour", "reason", "nested"});
  Beside beside{node["function"].as<std::string>(),
                node["same"].as<std::string>(),
                parse_expression(node["when"].as<std::string>()),
                {},
                node["reason"].as<std::string>()};
  if (node["nested"]) beside.is_nested = node["nested"].as<bool>();
  if (node["neighbour"]) beside.neighbour = parse_expression(node["neighbour"].as<std::string>());
  return beside;
}

// What an input's steps call other inputs by must end there: those are made of the call alone.
void check_references(const Binding& binding) {
  const auto references = [](const InputBinding& input) {
    std::vector<std::string> names;
    for (const Transform& step : input.transforms)
      for (const auto* argument : {&step.argument, &step.second_argument})
        if (*argument)
          for (std::string& name : (*argument)->names())
            if (name.starts_with("input.")) names.push_back(name.substr(6));
    return names;
  };
  for (const InputBinding& input : binding.inputs)
    for (const std::string& name : references(input)) {
      const InputBinding* const other = binding.input(name);
      if (other == nullptr || other->from.empty() || !references(*other).empty())
        throw Invalid{"input " + input.name + ": input." + name +
                      " is no tensor that is made of the call alone"};
    }
}

// When it applies, and when a call is rejected.
void parse_conditions(const YAML::Node& node, Binding& binding) {
  if (node["only_if"]) binding.only_if = parse_expression(node["only_if"].as<std::string>());
  for (const auto& rule : node["reject"]) {
    allow_only(rule, {"when", "reason"});
    binding.exclusions.push_back(
        {parse_expression(rule["when"].as<std::string>()), rule["reason"].as<std::string>()});
  }

  if (const YAML::Node sequences = node["sequences"]) {
    allow_only(sequences, {"indptr", "last_page", "least"});
    binding.sequences =
        Sequences{sequences["indptr"].as<std::string>(), sequences["last_page"].as<std::string>(""),
                  sequences["least"].as<std::int64_t>(0)};
  }
  if (const YAML::Node beside = node["beside"]) binding.beside = parse_beside(beside);
}

// What must hold, what is assumed, and what may be cut.
void parse_values(const YAML::Node& node, Binding& binding) {
  for (const auto& check : node["checks"]) binding.checks.push_back(parse_check(check));
  for (const auto& assumption : node["assume"]) {
    allow_only(assumption.second, {"unless", "cite"});
    binding.assumptions.push_back({assumption.first.as<std::string>(),
                                   parse_expression(assumption.second["unless"].as<std::string>()),
                                   assumption.second["cite"].as<std::string>()});
  }

  for (const auto& pool : node["pools"]) {
    allow_only(pool.second, {"used_by", "entries_per_page"});
    PoolAxis axis{.axis = pool.first.as<std::string>(),
                  .used_by = pool.second["used_by"].as<std::string>(),
                  .entries_per_page = {}};
    if (pool.second["entries_per_page"])
      axis.entries_per_page = parse_expression(pool.second["entries_per_page"].as<std::string>());
    binding.pools.push_back(std::move(axis));
  }
}

Binding parse_binding(const YAML::Node& node) {
  allow_only(node, {"id",     "op_type",  "needs",     "lacks",    "apis",   "unbindable",
                    "note",   "function", "plan",      "init",     "module", "positional",
                    "inputs", "axes",     "constants", "only_if",  "reject", "checks",
                    "assume", "pools",    "beside",    "sequences"});
  Binding binding;
  parse_purpose(node, binding);
  parse_sources(node, binding);
  check_references(binding);
  parse_conditions(node, binding);
  parse_values(node, binding);
  return binding;
}

bool contains(const std::vector<std::string>& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

bool fits(const Binding& binding, const Definition& definition) {
  const auto has = [&definition](const std::string& name) {
    return definition.input(name) != nullptr;
  };
  if (binding.op_type != definition.op_type) return false;
  if (!std::ranges::all_of(binding.needs, has)) return false;
  if (std::ranges::any_of(binding.lacks, has)) return false;
  const auto apis = definition.apis();
  return apis.empty() || binding.apis.empty() ||
         std::ranges::any_of(apis,
                             [&](std::string_view api) { return contains(binding.apis, api); });
}

}  // namespace

const InputBinding* Binding::input(std::string_view name) const {
  const auto found =
      std::ranges::find_if(inputs, [name](const InputBinding& i) { return i.name == name; });
  return found == inputs.end() ? nullptr : &*found;
}

Result<BindingSet> BindingSet::parse(const std::string& yaml) {
  BindingSet set;

  std::string where = "bindings";
  try {
    const YAML::Node root = YAML::Load(yaml);
    allow_only(root, {"format", "unbound", "reasons", "bindings"});
    if (root["format"].as<int>(0) != 1) return fail("bindings_invalid", "format: expected 1");
    for (const auto& reason : root["reasons"])
      set.reasons_[reason.first.as<std::string>()] = reason.second.as<std::string>();
    for (const auto& function : root["unbound"])
      set.unbound_[function.first.as<std::string>()] = function.second.as<std::string>();

    for (const auto& entry : root["bindings"]) {
      where = "binding " + entry["id"].as<std::string>("without id");
      Binding binding = parse_binding(entry);
      for (const Exclusion& exclusion : binding.exclusions)
        if (!set.reasons_.contains(exclusion.reason))
          throw Invalid{"reason '" + exclusion.reason + "' is not among 'reasons'"};
      if (binding.beside && !set.reasons_.contains(binding.beside->reason))
        throw Invalid{"reason '" + binding.beside->reason + "' is not among 'reasons'"};
      if (set.unbound_.contains(binding.function))
        throw Invalid{"function " + binding.function + " is among 'unbound'"};
      set.bindings_.push_back(std::move(binding));
    }
  } catch (const Invalid& error) {
    return fail("bindings_invalid", "{}: {}", where, error.message);
  } catch (const YAML::Exception& error) {
    return fail("bindings_invalid", "{}: {}", where, error.what());
  }
  return set;
}

std::string_view BindingSet::explain(std::string_view reason) const {
  const auto found = reasons_.find(reason);
  return found == reasons_.end() ? std::string_view() : std::string_view(found->second);
}

std::string_view BindingSet::why_unbound(std::string_view function) const {
  const auto found = unbound_.find(function);
  return found == unbound_.end() ? std::string_view() : std::string_view(found->second);
}

Result<std::vector<const Binding*>> BindingSet::serving(const Definition& definition) const {
  std::vector<const Binding*> serving, unbindable;
  std::optional<Error> unknown_input;
  for (const Binding& binding : bindings_) {
    if (!fits(binding, definition)) continue;
    const auto unknown = std::ranges::find_if(definition.inputs, [&](const TensorSpec& input) {
      return binding.input(input.name) == nullptr && !input.optional;
    });
    if (!binding.unbindable.empty())
      unbindable.push_back(&binding);
    else if (unknown == definition.inputs.end())
      serving.push_back(&binding);
    else if (!unknown_input)
      unknown_input =
          Error{"no_binding", fmt::format("definition {}: binding {} does not know input {}",
                                          definition.name, binding.id, unknown->name)};
  }
  if (!serving.empty()) return serving;
  if (!unbindable.empty()) return unbindable;
  if (unknown_input) return tl::unexpected(*unknown_input);
  const auto apis = definition.apis();
  return fail("no_binding",
              "definition {}: no binding for op type {}{} with these inputs; add one to "
              "bindings.yaml (--bindings)",
              definition.name, definition.op_type,
              apis.empty() ? "" : fmt::format(" and API {}", apis[0]));
}

Result<BindingSet> BindingSet::load(const std::filesystem::path& path) {
  if (path.empty()) return parse(std::string(built_in_bindings()));
  CW_TRY(const std::string yaml, read_file(AT_FDCWD, path.string(), max_bindings_file));
  return parse(yaml).map_error([&path](Error error) {
    error.message = fmt::format("{}: {}", path.string(), error.message);
    return error;
  });
}

IndexChecksOf BindingSet::index_checks() const {
  return [this](const Definition& definition) -> Result<std::span<const IndexCheck>> {
    CW_TRY(const auto serving, this->serving(definition));
    return std::span<const IndexCheck>(serving.front()->checks);
  };
}

}  // namespace cw
