#include "bind/name_resolver.h"

#include <algorithm>

#include "bind/told.h"
#include "bind/view.h"

namespace cw {

Operand to_operand(const Value& value) {
  if (const auto* flag = std::get_if<bool>(&value.data)) return *flag;
  if (const auto* integer = std::get_if<std::int64_t>(&value.data)) return *integer;
  if (const auto* real = std::get_if<double>(&value.data)) return *real;
  if (const auto* text = std::get_if<std::string>(&value.data)) return *text;
  if (const auto* number = std::get_if<Enumerator>(&value.data)) return number->value;
  if (const auto* opaque = std::get_if<Opaque>(&value.data))
    return opaque->text.empty() ? opaque->type : opaque->text;
  if (const auto* sequence = std::get_if<Sequence>(&value.data))
    return fmt::format("a sequence of {}", sequence->items.size());
  return {};
}

namespace {

// `owner` caches the tensor's bytes.
Operand operand_of(const Value& value, const Call& owner, const CallInContext& context) {
  const Tensor* tensor = value.tensor();
  if (tensor == nullptr) return to_operand(value);

  TensorOperand operand{tensor->dtype, shape_in(context, owner, *tensor), {}};
  operand.values = [&owner, &value, tensor] {
    return owner.remember(&value,
                          [&owner, tensor] { return read_all(*tensor, owner.shape_of(*tensor)); });
  };
  if (has_told(operand.shape, context)) {
    operand.no_extents = [&context, extent = operand.shape[0]] {
      meet(extent, context);
      return Error{depends_on_told, "the length of a list"};
    };
    operand.has_elements = is_list(operand.shape, context);
  }
  return operand;
}

}  // namespace

Argument resolve(std::string_view reference, const Binding& binding, const CallInContext& context) {
  const std::size_t dot = reference.find('.');
  const std::string role(reference.substr(0, dot));
  const std::string_view name = reference.substr(dot + 1);
  Argument argument;

  // An attribute of the wrapper at the time of the call.
  if (role == "state") {
    argument.owner = context.call.get();
    argument.value = argument.owner->given(fmt::format("self._{}", name));
    return argument;
  }

  argument.owner = role == "call"   ? context.call.get()
                   : role == "plan" ? context.plan.get()
                   : role == "init" ? context.init.get()
                                    : nullptr;
  if (argument.owner == nullptr) return argument;
  argument.value = argument.owner->given(name);
  argument.parameter = argument.owner->content->signature->find(name);
  if (argument.value != nullptr || argument.parameter != nullptr) return argument;

  // One of *args, by the name that the binding gives it.
  const auto names = binding.positional.find(role);
  if (names == binding.positional.end()) return argument;
  const auto position = std::ranges::find(names->second, name);
  if (position != names->second.end())
    argument.value = argument.owner->given(fmt::format("*{}", position - names->second.begin()));
  return argument;
}

Result<Operand> CallNameResolver::value_of(std::string_view name) const {
  const std::string_view role = name.substr(0, name.find('.'));
  if (name.starts_with("input.")) {
    const InputBinding* const input = binding_.input(name.substr(role.size() + 1));
    if (input == nullptr || input->from.empty())
      return fail("unknown_name", "unknown name {}", name);
    CW_TRY(InputView view, make_view(*input, binding_, context_));
    return TensorOperand{view.dtype, std::move(view.shape), std::move(view.load)};
  }
  if (role != "call" && role != "plan" && role != "init" && role != "state")
    return fail("unknown_name", "unknown name {}", name);
  const Argument argument = resolve(name, binding_, context_);
  if (argument.value != nullptr) return operand_of(*argument.value, *argument.owner, context_);
  if (argument.parameter != nullptr && argument.parameter->default_value)
    return to_operand(*argument.parameter->default_value);
  return Operand();
}

bool CallNameResolver::is_given(std::string_view name) const {
  return resolve(name, binding_, context_).value != nullptr;
}

}  // namespace cw
