#include "bind/binder.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <regex>
#include <sstream>

#include <fmt/ranges.h>

#include "bind/name_resolver.h"
#include "bind/sequences.h"
#include "bind/told.h"

namespace cw {
namespace {

Rejection rejection_of(Error error) {
  return {std::move(error.code), std::move(error.message)};
}

// What a call says about one binding's inputs, whatever the definition; built once for all its
// definitions.
struct Inputs {
  std::map<const InputBinding*, Result<InputView>> views;
  /// Parallel to Binding::axes; nothing where it depends on the definition.
  std::vector<std::optional<Result<Operand>>> axes;
};

// Resolves the names of a binding and of one definition, including its constants, axes and inputs.
class TargetNameResolver final : public NameResolver {
 public:
  /// What told axes are taken for: a number where nothing depends on it, or an error.
  enum class Told { refused, any_number };

  TargetNameResolver(const Definition& definition, const Provider& provider,
                     const CallInContext& context, const Observation* observation = nullptr,
                     Told told = Told::refused)
      : call_names_(*provider.binding, context),
        context_(context),
        definition_(definition),
        provider_(provider),
        observation_(observation),
        told_(told) {}

  Result<Operand> value_of(std::string_view name) const override {
    if (name.starts_with("constant.")) {
      for (const auto& [constant, value] : provider_.constants)
        if (constant == name.substr(9)) return value;
      return Operand();
    }
    if (name.find('.') != std::string_view::npos) return call_names_.value_of(name);
    for (std::size_t i = 0; i < definition_.axes.size(); ++i)
      if (definition_.axes[i].name == name) {
        if (definition_.axes[i].constant) return Operand(*definition_.axes[i].constant);
        if (observation_ == nullptr) return Operand();
        if (observation_->axes[i] == unknown_extent)
          return fail("axis_unknown", "the call does not show {}", name);
        if (!is_told(observation_->axes[i], context_)) return Operand(observation_->axes[i]);
        if (told_ == Told::refused) return fail(depends_on_told, "{}", name);
        return Operand(std::int64_t{1});
      }
    for (std::size_t i = 0; observation_ != nullptr && i < definition_.inputs.size(); ++i)
      if (definition_.inputs[i].name == name) return input(observation_->inputs[i], context_);
    return fail("unknown_name", "unknown name {}", name);
  }

  bool is_given(std::string_view name) const override { return call_names_.is_given(name); }

 private:
  static Operand input(const ObservedInput& input, const CallInContext& context) {
    if (const auto* scalar = std::get_if<Operand>(&input.data)) return *scalar;
    const auto* view = std::get_if<InputView>(&input.data);
    if (view == nullptr) return {};
    TensorOperand operand{view->dtype, view->shape, {}};
    operand.values = [&input, view]() -> Result<std::shared_ptr<const DenseTensor>> {
      if (input.values) return input.values;
      return view->load();
    };
    if (!has_told(view->shape, context)) return operand;
    operand.no_extents = [&context, view] {
      meet_all(view->shape, context);
      return Error{depends_on_told, "the length of an input"};
    };
    operand.has_elements = is_list(view->shape, context);
    return operand;
  }

  CallNameResolver call_names_;
  const CallInContext& context_;
  const Definition& definition_;
  const Provider& provider_;
  const Observation* observation_;
  Told told_;
};

// A difference from the definition, worded only when reported: most definitions do not match a
// call.
struct Mismatch {
  enum class Kind { axis, rank, dtype, not_a_tensor };
  Kind kind;
  std::string_view axis;                ///< for Kind::axis
  std::string_view where;               ///< the input or expression that showed it
  std::int64_t expected = 0, seen = 0;  ///< extents, DTypes or ranks

  std::string what() const {
    switch (kind) {
      case Kind::axis:
        return fmt::format("{}: expected {}, seen {} ({})", axis, expected, seen, where);
      case Kind::rank:
        return fmt::format("{}: expected {} axes, seen {}", where, expected, seen);
      case Kind::dtype:
        return fmt::format("{}: expected {}, seen {}", where,
                           trace_name(static_cast<DType>(expected)),
                           trace_name(static_cast<DType>(seen)));
      case Kind::not_a_tensor:
        return fmt::format("{}: a tensor in the definition, a scalar in the call", where);
    }
    return {};
  }
};

// Why the engine's calls differ from the definition in exactly these axes, most likely cause first.
std::string likely_cause(const std::vector<Mismatch>& mismatches, const Definition& definition) {
  const auto of = [&mismatches](std::string_view axis) {
    return std::ranges::find_if(mismatches, [axis](const Mismatch& m) { return m.axis == axis; });
  };
  const auto none = mismatches.end();

  if (of("page_size") != none && mismatches.size() == 1)
    return "the engine runs with another page size";

  // Heads reduced by the same factor: the ranks split them.
  const auto heads = of("num_qo_heads"), kv = of("num_kv_heads");
  const auto multiple = [](std::int64_t seen, std::int64_t expected) {
    return expected > 0 && seen > 0 && (seen % expected == 0 || expected % seen == 0);
  };
  if (heads != none && (kv == none || heads->seen * kv->expected == kv->seen * heads->expected) &&
      multiple(heads->seen, heads->expected)) {
    const auto tp = definition.tag_values("tp");
    return fmt::format("another tensor parallel size{}, or another model",
                       tp.empty() ? "" : fmt::format(" (the definition is for tp {})", tp[0]));
  }

  if (std::ranges::all_of(mismatches,
                          [](const Mismatch& m) { return m.kind == Mismatch::Kind::dtype; }))
    return "the engine runs with another data type or quantization";
  if (of("num_local_experts") != none && mismatches.size() == 1)
    return "another expert parallel size";
  return "another model";
}

// Whether a binding takes an input of another type than its definition's.
bool is_allowed(OtherTypes others, DType recorded, DType wanted) {
  const auto is_half = [](DType type) { return type == DType::float16 || type == DType::bfloat16; };
  switch (others) {
    case OtherTypes::none:
      return false;
    case OtherTypes::cast:
      return (is_integer(recorded) && is_integer(wanted)) ||
             (recorded == DType::float32 && wanted == DType::bfloat16) ||
             (recorded == DType::int64 && wanted == DType::float32);
    case OtherTypes::half:
      return is_half(recorded) && is_half(wanted);
    case OtherTypes::any:
      return true;
  }
  return false;
}

Rejection mismatch_rejection(const std::vector<Mismatch>& mismatches,
                             const Definition& definition) {
  std::vector<std::string> parts;
  for (const Mismatch& m : mismatches) parts.push_back(m.what());
  return {"no_definition_fits",
          fmt::format("closest is {}: {}; likely {}", definition.name, fmt::join(parts, "; "),
                      likely_cause(mismatches, definition))};
}

// Matches one call against one definition.
class Match {
 public:
  Match(const Target& target, const Provider& provider, const BindingSet& bindings,
        const CallInContext& context, const Inputs& inputs)
      : definition_(*target.definition),
        provider_(provider),
        bindings_(bindings),
        context_(context),
        inputs_(inputs) {
    observation_.target = &target;
    observation_.provider = &provider;
    observation_.axes.assign(definition_.axes.size(), unknown_extent);
    for (std::size_t i = 0; i < definition_.axes.size(); ++i)
      if (definition_.axes[i].constant) observation_.axes[i] = *definition_.axes[i].constant;
  }

  /// Compares every const axis and dtype with every tensor; collects var axes and their
  /// disagreements.
  void compare() {
    // Every tensor against its specification.
    for (std::size_t i = 0; i < definition_.inputs.size(); ++i) {
      const TensorSpec& spec = definition_.inputs[i];
      const InputBinding* binding = provider_.inputs[i];
      if (binding == nullptr || spec.is_scalar) continue;
      if (binding->from.empty()) {
        mismatches_.push_back(
            {.kind = Mismatch::Kind::not_a_tensor, .axis = {}, .where = spec.name});
        continue;
      }
      const Result<InputView>& view = inputs_.views.at(binding);
      if (!view) {
        if (!is_open(view.error()) && !spec.optional && !missing_) missing_ = view.error();
        continue;
      }
      compare_tensor(spec, *binding, *view);
    }

    // And what scalars say about axes, or about constants in the definition's name.
    const TargetNameResolver names(definition_, provider_, context_);
    for (std::size_t i = 0; i < provider_.binding->axes.size(); ++i) {
      const auto& [axis, expression] = provider_.binding->axes[i];
      const auto value = inputs_.axes[i] ? *inputs_.axes[i] : expression.evaluate(names);
      const auto number = value ? as_integer(*value) : std::nullopt;
      if (!number) continue;
      // A number that looks like a told one, which no API takes.
      if (is_told(*number, context_)) meet(symbol_of({}), context_);
      const auto found = std::ranges::find_if(
          definition_.axes, [&wanted = axis](const Axis& a) { return a.name == wanted; });
      if (found != definition_.axes.end()) {
        set_axis(static_cast<std::size_t>(found - definition_.axes.begin()), *number,
                 expression.text());
        continue;
      }
      for (const auto& [constant, expected] : provider_.constants)
        if (constant == axis && as_integer(expected) && as_integer(expected) != number)
          mismatch(axis, *as_integer(expected), *number, expression.text());
    }
  }

  const std::vector<Mismatch>& mismatches() const { return mismatches_; }

  /// Everything else that must hold, after compare() found no mismatch.
  std::optional<Rejection> finish() {
    take_tensors();
    if (auto failed = check_exclusions()) return failed;
    if (missing_) return rejection_of(*missing_);
    if (!disagreement_.empty()) return Rejection{"axes_disagree", disagreement_};
    if (auto failed = load_structural_inputs()) return failed;
    if (auto failed = find_scalars()) return failed;
    if (auto failed = find_optional()) return failed;
    for (std::size_t i = 0; i < definition_.axes.size(); ++i)
      if (observation_.axes[i] == unknown_extent && !observation_.unseen)
        return Rejection{"axes_unknown", fmt::format("{}: nothing determines axis {}",
                                                     definition_.name, definition_.axes[i].name)};
    if (auto failed = check_structure()) return failed;
    if (auto failed = check_constraints()) return failed;
    const CallNameResolver names(*provider_.binding, context_);
    for (const Assumption& assumption : provider_.binding->assumptions)
      if (const auto known = assumption.unless.evaluate(names); !known || !truth(*known))
        derive(assumption.name);
    std::ranges::sort(observation_.derived);
    observation_.context = context_;
    return {};
  }

  Observation take() { return std::move(observation_); }

 private:
  void take_tensors() {
    observation_.inputs.resize(definition_.inputs.size());
    for (std::size_t i = 0; i < definition_.inputs.size(); ++i) {
      const InputBinding* binding = provider_.inputs[i];
      if (binding == nullptr || binding->from.empty() || definition_.inputs[i].is_scalar) continue;
      const Result<InputView>& view = inputs_.views.at(binding);
      if (!view) continue;
      if (view->is_derived) derive("kv_layout");
      if (!binding->cite.empty()) derive(binding->name);
      observation_.inputs[i].data = *view;
    }
  }

  void derive(const std::string& name) {
    auto& names = observation_.derived;
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  }

  void mismatch(std::string_view axis, std::int64_t expected, std::int64_t seen,
                std::string_view where) {
    for (const Mismatch& known : mismatches_)
      if (known.axis == axis) return;
    mismatches_.push_back({Mismatch::Kind::axis, axis, where, expected, seen});
  }

  // Whether this cannot be decided because the capture did not keep the values it needs.
  bool is_open(const Error& error) {
    if (is_not_kept(error.code) && !observation_.unseen) observation_.unseen = rejection_of(error);
    return is_not_kept(error.code) || (error.code == "axis_unknown" && observation_.unseen);
  }

  void set_axis(std::size_t axis, std::int64_t seen, std::string_view where) {
    if (seen == unknown_extent) return;
    std::int64_t& value = observation_.axes[axis];
    const Axis& spec = definition_.axes[axis];
    const bool is_compared = spec.constant || (value != unknown_extent && value != seen);
    if (is_compared && (is_told(seen, context_) || is_told(value, context_))) {
      meet(seen, context_);
      meet(value, context_);
    } else if (spec.constant) {
      if (*spec.constant != seen) mismatch(spec.name, *spec.constant, seen, where);
    } else if (value == unknown_extent) {
      value = seen;
    } else if (value != seen && disagreement_.empty()) {
      disagreement_ = fmt::format("{}: axis {} is {} elsewhere and {} in {}", definition_.name,
                                  spec.name, value, seen, where);
    }
  }

  void compare_tensor(const TensorSpec& spec, const InputBinding& binding, const InputView& view) {
    if (view.shape.size() != spec.axes.size()) {
      mismatches_.push_back({Mismatch::Kind::rank,
                             {},
                             spec.name,
                             static_cast<std::int64_t>(spec.axes.size()),
                             static_cast<std::int64_t>(view.shape.size())});
      return;
    }
    for (std::size_t i = 0; i < spec.axes.size(); ++i)
      set_axis(spec.axes[i], view.shape[i], spec.name);

    if (view.dtype == spec.dtype) return;
    if (!is_allowed(binding.other_types, view.dtype, spec.dtype))
      mismatches_.push_back({Mismatch::Kind::dtype,
                             {},
                             spec.name,
                             static_cast<std::int64_t>(spec.dtype),
                             static_cast<std::int64_t>(view.dtype)});
    if (binding.other_types == OtherTypes::half) derive("dtype");
  }

  std::optional<Rejection> load_structural_inputs() {
    for (std::size_t i = 0; i < definition_.inputs.size(); ++i) {
      const auto* view = std::get_if<InputView>(&observation_.inputs[i].data);
      if (view == nullptr || !provider_.inputs[i]->is_structural) continue;
      auto loaded = load(*view, definition_.inputs[i]);
      if (!loaded && is_open(loaded.error())) continue;
      if (!loaded) return rejection_of(loaded.error());
      observation_.inputs[i].values = std::move(*loaded);
    }
    return {};
  }

  static Result<std::shared_ptr<const DenseTensor>> load(const InputView& view,
                                                         const TensorSpec& spec) {
    CW_TRY(auto values, view.load());
    if (values->dtype == spec.dtype) return values;
    auto converted = cast(*values, spec.dtype);
    if (!converted)
      return fail("dtype", "input {}: a value of {} does not fit {}", spec.name,
                  trace_name(values->dtype), trace_name(spec.dtype));
    return std::make_shared<const DenseTensor>(std::move(*converted));
  }

  std::optional<Rejection> find_scalars() {
    const TargetNameResolver names(definition_, provider_, context_);
    for (std::size_t i = 0; i < definition_.inputs.size(); ++i) {
      const InputBinding* binding = provider_.inputs[i];
      if (binding == nullptr || !definition_.inputs[i].is_scalar) continue;
      if (!binding->value)
        return Rejection{
            "scalar_unknown",
            fmt::format("input {} is a scalar in the definition, a tensor in binding {}",
                        binding->name, provider_.binding->id)};
      auto value = binding->value->evaluate(names);
      if (value && is_none(*value) && binding->default_value) {
        value = binding->default_value->evaluate(names);
        derive(binding->name);
      }
      if (!value && is_open(value.error())) continue;

      if (!value)
        return Rejection{"scalar_unknown",
                         fmt::format("input {}: {}", binding->name, value.error().message)};

      // It must be a number that can be stored.
      const auto number = as_number(*value);
      if (!number || !std::isfinite(*number) ||
          (is_integer(definition_.inputs[i].dtype) && !as_integer(*value)))
        return Rejection{"scalar_unknown",
                         fmt::format("input {}: {} is {}, and FlashInfer documents no default",
                                     binding->name, binding->value->text(), describe(*value))};
      observation_.inputs[i].data = as_scalar(*value, definition_.inputs[i].dtype);
    }
    return {};
  }

  // Inputs that a call may omit but a workload may not: flashinfer-bench wants every input of a
  // definition named.
  std::optional<Rejection> find_optional() {
    const CallNameResolver names(*provider_.binding, context_);

    for (std::size_t i = 0; i < definition_.inputs.size(); ++i) {
      const TensorSpec& spec = definition_.inputs[i];
      ObservedInput& observed = observation_.inputs[i];
      if (!spec.optional || !std::holds_alternative<std::monostate>(observed.data) ||
          observation_.unseen)
        continue;
      // A scalar that no binding knows is looked up by parameter name, with the function's own
      // default.
      if (spec.is_scalar && provider_.inputs[i] == nullptr) {
        Operand value;
        for (const char* role : {"call", "plan", "init"})
          if (const auto given = names.value_of(fmt::format("{}.{}", role, spec.name));
              is_none(value) && given) {
            value = *given;
            if (!is_none(value) && !names.is_given(fmt::format("{}.{}", role, spec.name)))
              derive(spec.name);
          }
        if (const auto number = as_number(value); number && std::isfinite(*number)) {
          observed.data = as_scalar(value, spec.dtype);
          continue;
        }
      }

      // Floats may be anything; for other types no arbitrary value is known to be right.
      const bool is_any = !spec.is_scalar && !is_integer(spec.dtype) &&
                          spec.dtype != DType::boolean && spec.dtype != DType::float4_e2m1;
      if (!is_any)
        return Rejection{
            "optional_unknown",
            fmt::format(
                "input {} is optional, the call has none and FlashInfer documents no default; "
                "flashinfer-bench would generate it at random",
                spec.name)};
      derive(spec.name);
    }
    return {};
  }

  static Operand as_scalar(const Operand& value, DType dtype) {
    if (is_integer(dtype))
      return as_integer(value) ? Operand(*as_integer(value)) : Operand(truth(value) ? 1 : 0);
    if (dtype == DType::boolean) return Operand(truth(value));
    return Operand(*as_number(value));
  }

  // Why no definition of the binding can take the call.
  std::optional<Rejection> check_exclusions() {
    const Binding& binding = *provider_.binding;
    const auto excluded = [this](const std::string& reason) {
      return Rejection{reason, std::string(bindings_.explain(reason))};
    };
    if (binding.beside &&
        (context_.has_neighbour || (binding.beside->is_nested && context_.call->is_nested)))
      return excluded(binding.beside->reason);
    const TargetNameResolver names(definition_, provider_, context_);
    for (const Exclusion& rule : binding.exclusions) {
      const auto applies = rule.when.evaluate(names);
      if (!applies && is_open(applies.error())) continue;
      if (!applies) return rejection_of(applies.error());
      if (truth(*applies)) return excluded(rule.reason);
    }
    return {};
  }

  std::optional<Rejection> check_structure() {
    const TargetNameResolver names(definition_, provider_, context_, &observation_);
    for (const IndexCheck& check : provider_.binding->checks) {
      // A check on an input that this definition does not have (kv_last_page_len at page size 1).
      const bool is_input = check.subject.find('.') == std::string::npos;
      if (is_input && definition_.input(check.subject) == nullptr) continue;

      auto holds = evaluate(check, definition_, names);
      if (holds || is_open(holds.error())) continue;
      if (holds.error().code == depends_on_told) meet_all(observation_.axes, context_);
      if (holds.error().code == "structure")
        holds.error().message = fmt::format("{}: {}", definition_.name, holds.error().message);
      return rejection_of(holds.error());
    }
    return {};
  }

  std::optional<Rejection> check_constraints() {
    const TargetNameResolver names(definition_, provider_, context_, &observation_);
    for (const Expression& constraint : definition_.constraints) {
      auto holds = constraint.evaluate(names);
      // Values that were not kept leave it open, whatever was told.
      if (!holds && holds.error().code == depends_on_told) {
        holds = constraint.evaluate(TargetNameResolver(
            definition_, provider_, context_, &observation_, TargetNameResolver::Told::any_number));
        if (!constraint.evaluates_everything() || holds || !is_not_kept(holds.error().code))
          meet_axes_of(constraint);
      }
      if (!holds && is_open(holds.error())) continue;
      if (!holds)
        return Rejection{"constraint", fmt::format("{}: {}: {}", definition_.name,
                                                   constraint.text(), holds.error().message)};
      if (!truth(*holds))
        return Rejection{"constraint",
                         fmt::format("{}: {} does not hold", definition_.name, constraint.text())};
    }
    return {};
  }

  void meet_axes_of(const Expression& constraint) const {
    for (std::size_t i = 0; i < definition_.axes.size(); ++i)
      if (constraint.mentions(definition_.axes[i].name)) meet(observation_.axes[i], context_);
  }

  const Definition& definition_;
  const Provider& provider_;
  const BindingSet& bindings_;
  const CallInContext& context_;
  const Inputs& inputs_;
  Observation observation_;
  std::vector<Mismatch> mismatches_;
  std::optional<Error> missing_;
  std::string disagreement_;
};

// The real sequences of a padded batch.
std::optional<std::int64_t> real_sequences(const Call& call,
                                           const Result<std::vector<std::int64_t>>& lengths) {
  if (call.sequences || !lengths) return call.sequences;
  const auto empty = std::count(lengths->begin(), lengths->end(), 0);
  if (empty == 0) return {};
  return static_cast<std::int64_t>(lengths->size()) - empty;
}

bool has_unnamed_arguments(const Binding& binding, const CallInContext& context) {
  const auto check = [&binding](const Call* call, const std::string& role) {
    if (call == nullptr) return false;
    const auto names = binding.positional.find(role);
    const std::size_t known = names == binding.positional.end() ? 0 : names->second.size();
    return std::ranges::any_of(call->content->arguments, [known](const auto& argument) {
      std::size_t index = 0;
      const std::string& name = argument.first;
      if (!name.starts_with("*")) return false;
      std::from_chars(name.data() + 1, name.data() + name.size(), index);
      return index >= known;
    });
  };
  return check(context.call.get(), "call") || check(context.plan.get(), "plan");
}

std::vector<std::pair<std::string, Operand>> find_constants(const Binding& binding,
                                                            const Definition& definition) {
  std::vector<std::pair<std::string, Operand>> constants;
  for (const NamedConstant& constant : binding.constants) {
    std::istringstream lines(constant.in_reference ? definition.reference : definition.name);
    const std::regex pattern(constant.pattern);
    for (std::string line; std::getline(lines, line);) {
      std::smatch match;
      // std::regex recurses; no constant is defined on a line this long.
      if (line.size() > 200 || !std::regex_search(line, match, pattern) || match.size() < 2)
        continue;
      const auto value = Expression::parse(match[1].str());
      const auto number = value ? value->evaluate(CallNameResolver(binding, {}))
                                : Result<Operand>(tl::unexpected(value.error()));
      if (!number) continue;
      constants.emplace_back(constant.name, *number);
      break;
    }
  }
  return constants;
}

}  // namespace

Hash128 shape_key(const CallInContext& context) {
  static thread_local std::string text;

  text.clear();
  const auto append = [](const void* data, std::size_t size) {
    text.append(static_cast<const char*>(data), size);
  };
  const auto append_value = [&](const auto& self, const Value& value) -> void {
    text += static_cast<char>(value.data.index());
    if (const Tensor* tensor = value.tensor()) {
      text += static_cast<char>(tensor->dtype);
      const Shape shape = context.call->shape_of(*tensor);
      append(shape.data(), shape.size() * sizeof(std::int64_t));
    } else if (const auto* sequence = std::get_if<Sequence>(&value.data)) {
      for (const Value& item : sequence->items) self(self, item);
    } else if (const auto* string = std::get_if<std::string>(&value.data)) {
      text += *string;
    } else if (const auto* opaque = std::get_if<Opaque>(&value.data)) {
      text += opaque->type + opaque->text;
    } else if (const auto* number = std::get_if<Enumerator>(&value.data)) {
      append(&number->value, sizeof number->value);
    } else if (const auto* flag = std::get_if<bool>(&value.data)) {
      append(flag, sizeof *flag);
    } else if (const auto* integer = std::get_if<std::int64_t>(&value.data)) {
      append(integer, sizeof *integer);
    } else if (const auto* real = std::get_if<double>(&value.data)) {
      append(real, sizeof *real);
    }
    text += '\n';
  };

  // What the call is, and what it depends on.
  const Call& call = *context.call;
  constexpr std::size_t none = ~std::size_t{0};
  const std::size_t owners[] = {context.plan ? context.plan->order : none,
                                context.init ? context.init->order : none};
  append(&call.content->signature->digest, sizeof call.content->signature->digest);
  append(&owners, sizeof owners);
  const std::int64_t sequences = call.sequences.value_or(-1);
  append(&sequences, sizeof sequences);
  text += {static_cast<char>(call.status), static_cast<char>(call.is_nested),
           static_cast<char>(context.has_plan_in_doubt), static_cast<char>(context.has_neighbour),
           static_cast<char>(context.is_before_traffic)};
  text += call.content->function + "\n" + call.content->module + "\n";

  // And its arguments, without tensor values.
  for (const auto& [name, value] : call.content->arguments) {
    text += name;
    append_value(append_value, value);
  }
  return xxh3(text);
}

Binder::Binder(const std::vector<Definition>& definitions, const BindingSet& bindings,
               BinderOptions options)
    : bindings_(bindings), options_(options) {
  targets_.reserve(definitions.size());
  for (const Definition& definition : definitions) {
    const auto serving = bindings.serving(definition);
    if (!serving || !serving->front()->unbindable.empty()) continue;
    Target target{&definition, {}};
    for (const Binding* binding : *serving) {
      Provider provider{binding, {}, find_constants(*binding, definition)};
      for (const TensorSpec& input : definition.inputs)
        provider.inputs.push_back(binding->input(input.name));
      target.providers.push_back(std::move(provider));
    }
    targets_.push_back(std::move(target));
  }

  // Grouped by function and, within it, by binding.
  for (const Target& target : targets_)
    for (const Provider& provider : target.providers) {
      FunctionRoutes& group = by_function_[provider.binding->function];
      group.routes.push_back({&target, &provider});
      for (std::size_t i = 0; i < provider.inputs.size(); ++i) {
        const InputBinding* input = provider.inputs[i];
        if (input != nullptr && input->from.starts_with("call.") &&
            (input->is_structural || is_integer(target.definition->inputs[i].dtype)))
          group.depends_on_shapes_only = false;
      }
    }
  for (auto& [function, group] : by_function_)
    std::ranges::stable_sort(group.routes, [](const Route& a, const Route& b) {
      return a.provider->binding < b.provider->binding;
    });
}

bool Binder::depends_on_shapes_only(const std::string& function) const {
  const auto found = by_function_.find(function);
  return found == by_function_.end() || found->second.depends_on_shapes_only;
}

namespace {

// Why a call is not traffic, whatever its arguments.
std::optional<Rejection> not_traffic(const CallInContext& context, const BinderOptions& options) {
  if (context.call->status == CallStatus::captured)
    return Rejection{
        "captured_in_cuda_graph",
        "recorded while a CUDA graph was captured; level 10 does not see the arguments "
        "of its replays"};
  if (context.call->status == CallStatus::dummy)
    return Rejection{"not_traffic",
                     "made to warm up, autotune or capture a CUDA graph, with dummy lengths"};
  if (context.plan && context.plan->status == CallStatus::dummy)
    return Rejection{"not_traffic",
                     "planned to warm up, autotune or capture a CUDA graph, with dummy lengths"};
  if (context.is_before_traffic && !options.includes_suspicious)
    return Rejection{"before_traffic",
                     "made while the engine started, before its first request; "
                     "--include-suspicious includes them"};
  return {};
}

// Whether a binding reads a call at all.
bool applies(const Binding& binding, const CallInContext& context) {
  return binding.module_contains.empty() ||
         context.call->content->module.find(binding.module_contains) != std::string::npos;
}

// Why a call that a binding reads cannot be bound by it.
std::optional<Rejection> not_bindable(const Binding& binding, const CallInContext& context) {
  if (!binding.plan_function.empty() && !context.plan)
    return context.has_plan_in_doubt
               ? Rejection{"plan_in_doubt",
                           "a plan of this process was not kept or cannot be read, so the last one "
                           "known may not be this run's"}
               : Rejection{"plan_missing", "no plan of this wrapper is among the dumps"};
  if (has_unnamed_arguments(binding, context))
    return Rejection{"unnamed_arguments",
                     "positional arguments that neither the signature nor the binding names"};
  return {};
}

Rejection dummy_batch(const Binding& binding) {
  return {"suspicious_dummy",
          fmt::format("no sequence has the {} tokens that each has which an engine decodes: a "
                      "dummy of a warm-up or a capture; --include-suspicious includes them",
                      binding.sequences->min)};
}

}  // namespace

// What one call has given so far, or why it has given nothing.
struct Binder::Attempt {
  BindResult result;
  std::optional<Rejection> rejected;
  const Definition* closest = nullptr;  ///< of those that do not match, and what does not
  std::vector<Mismatch> mismatches;

  // The rejection that came closest.
  Rejection rejection(const std::string& function) {
    if (rejected) return std::move(*rejected);
    if (closest != nullptr) return mismatch_rejection(mismatches, *closest);
    return {"other_stage",
            fmt::format("{} was called in a way that no definition in the dataset describes",
                        function)};
  }
};

BindResult Binder::bind(const CallInContext& context) const {
  const std::string& function = context.call->content->function;
  if (auto why = not_traffic(context, options_)) return {{}, std::move(why)};
  const auto found = by_function_.find(function);
  if (found == by_function_.end())
    return {
        {},
        Rejection{"no_definition", fmt::format("no definition for {} in the dataset", function)}};

  // Every binding of the function, with all its definitions.
  Attempt attempt;
  const std::vector<Route>& routes = found->second.routes;
  for (std::size_t begin = 0; begin < routes.size();) {
    const Binding& binding = *routes[begin].provider->binding;
    std::size_t end = begin;
    while (end < routes.size() && routes[end].provider->binding == &binding) ++end;
    if (applies(binding, context))
      try_binding(context, binding, {routes.data() + begin, end - begin}, attempt);
    begin = end;
  }

  if (attempt.result.observations.empty()) attempt.result.rejection = attempt.rejection(function);
  return std::move(attempt.result);
}

void Binder::try_binding(const CallInContext& context, const Binding& binding,
                         std::span<const Route> routes, Attempt& attempt) const {
  if (auto why = not_bindable(binding, context)) {
    attempt.rejected = std::move(why);
    return;
  }
  if (binding.only_if) {
    const auto holds = binding.only_if->evaluate(CallNameResolver(binding, context));
    if (!holds || !truth(*holds)) return;
  }
  const auto lengths = lengths_of(binding, context);
  const bool is_dummy = lengths && is_dummy_batch(binding, *lengths);
  if (is_dummy && !options_.includes_suspicious) {
    attempt.rejected = dummy_batch(binding);
    return;
  }

  // Inputs are read once for all definitions.
  Inputs inputs;
  for (const InputBinding& input : binding.inputs)
    if (!input.from.empty()) inputs.views.emplace(&input, make_view(input, binding, context));
  for (const auto& [axis, expression] : binding.axes) {
    auto value = expression.evaluate(CallNameResolver(binding, context));
    const bool is_of_call = value || value.error().code != "unknown_name";
    inputs.axes.push_back(is_of_call ? std::optional(std::move(value)) : std::nullopt);
  }

  for (const auto& [target, provider] : routes) {
    Match match(*target, *provider, bindings_, context, inputs);
    match.compare();
    if (!match.mismatches().empty()) {
      if (attempt.closest == nullptr || match.mismatches().size() < attempt.mismatches.size()) {
        attempt.closest = target->definition;
        attempt.mismatches = match.mismatches();
      }
      continue;
    }
    if (auto failed = match.finish()) {
      attempt.rejected = std::move(failed);
      continue;
    }
    Observation& observation = attempt.result.observations.emplace_back(match.take());
    observation.is_suspicious = is_dummy || context.is_before_traffic;
    observation.sequences = real_sequences(*context.call, lengths);
  }
}

}  // namespace cw
