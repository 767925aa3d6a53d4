#include "bind/association.h"

#include <algorithm>

#include "bind/name_resolver.h"

namespace cw {
namespace {

// Enough to tell activations apart, little enough to read for every call.
constexpr std::uint64_t compared_bytes = 4096;

// Whether `neighbour` is the other half of a binding's `beside` rule for `call`.
bool are_beside(const Binding& binding, const Call& call,
                const std::shared_ptr<const Call>& neighbour) {
  if (!binding.beside || !neighbour || binding.beside->function != neighbour->function)
    return false;
  if (binding.beside->neighbour) {
    const CallInContext context{.call = neighbour, .plan = {}, .init = {}};
    const auto applies = binding.beside->neighbour->evaluate(CallNameResolver(binding, context));
    if (!applies || !truth(*applies)) return false;
  }
  return have_same_argument(call, *neighbour, binding.beside->same);
}

// For plans and constructors; an engine has a few hundred wrappers.
constexpr std::size_t max_held = 64 << 20;

std::size_t memory_of(const Call& call) {
  // Per call: what it was read from, and where its tensors' values are.
  constexpr std::size_t others = 2048;
  return others + memory_of(call.arguments);
}

std::string class_of(const std::string& function) {
  return function.substr(0, function.find('.'));
}

}  // namespace

bool have_same_argument(const Call& left, const Call& right, std::string_view parameter) {
  const Value* a = left.given(parameter);
  const Value* b = right.given(parameter);
  if (a == nullptr || b == nullptr) return false;
  const Tensor* x = a->tensor();
  const Tensor* y = b->tensor();
  if (x == nullptr || y == nullptr) {
    const auto p = as_number(to_operand(*a, left)), q = as_number(to_operand(*b, right));
    return p && q && *p == *q;
  }
  if (x->dtype != y->dtype || x->shape != y->shape) return false;
  if (x->address != 0 && y->address != 0) return x->address == y->address;
  const std::uint64_t count =
      std::min(*element_count(x->shape), compared_bytes * 8 / bits(x->dtype));
  const auto front = read_front(*x, count), other = read_front(*y, count);
  return front && other && front->bytes == other->bytes;
}

Association::Association(const BindingSet& bindings) {
  for (const Binding& binding : bindings.bindings()) {
    if (binding.function.empty()) continue;
    Role& role = roles_[binding.function];
    role.is_call = true;
    role.bindings.push_back(&binding);
    if (!binding.plan_function.empty()) roles_[binding.plan_function].is_plan = true;
    if (!binding.init_function.empty()) roles_[binding.init_function].is_init = true;
    if (binding.beside) roles_[binding.beside->function].is_neighbour = true;
  }
}

void Association::doubt(Process& process, const std::string& wrapper_class) {
  for (auto& [id, wrapper] : process.wrappers)
    if (id.first == wrapper_class) wrapper.in_doubt = true;
}

void Association::hold(std::shared_ptr<const Call>& held, std::shared_ptr<const Call> call,
                       Wrapper& wrapper) {
  if (held) {
    held_bytes_ -= memory_of(*held);
    held_.erase(held->order);
  }
  held = std::move(call);
  if (!held) return;
  held_bytes_ += memory_of(*held);
  held_.emplace(held->order, &wrapper);
  while (held_bytes_ > max_held && held_.size() > 1) {
    const auto [order, oldest] = *held_.begin();
    auto& given_up = oldest->plan && oldest->plan->order == order ? oldest->plan : oldest->init;
    held_bytes_ -= memory_of(*given_up);
    given_up = nullptr;
    oldest->in_doubt = true;
    held_.erase(held_.begin());
  }
}

void Association::add_unreadable(const std::string& function, std::uint32_t folder,
                                 std::int64_t process) {
  const auto role = roles_.find(function);
  if (role != roles_.end() && role->second.is_plan)
    doubt(processes_[{folder, process}], class_of(function));
}

void Association::release(Process& process, std::vector<CallInContext>& ready) {
  if (!process.waiting) return;
  ready.push_back(std::move(*process.waiting));
  process.waiting.reset();
}

void Association::offer_neighbour(Process& process, const std::shared_ptr<const Call>& call,
                                  std::vector<CallInContext>& ready) {
  if (process.waiting) {
    for (const Binding* binding : roles_.at(process.waiting->call->function).bindings)
      if (are_beside(*binding, *process.waiting->call, call)) {
        // This one is spoken for: it cannot be the neighbour of a later call too.
        process.waiting->has_neighbour = true;
        release(process, ready);
        return;
      }
  }
  process.last[call->function] = call;
}

void Association::add(std::shared_ptr<const Call> call, std::vector<CallInContext>& ready) {
  const auto found = roles_.find(call->function);
  if (found == roles_.end()) return;
  const Role& role = found->second;
  Process& process = processes_[{call->wrapper.folder, call->wrapper.process}];
  const std::string wrapper_class = class_of(call->function);

  if (role.is_init) {
    Wrapper& wrapper = process.wrappers[{wrapper_class, call->wrapper.self}];
    hold(wrapper.plan, nullptr, wrapper);
    hold(wrapper.init, call, wrapper);
    wrapper.in_doubt = wrapper.has_doubtful_order = false;
    return;
  }
  if (role.is_plan) {
    Wrapper& wrapper = process.wrappers[{wrapper_class, call->wrapper.self}];
    wrapper.has_doubtful_order =
        call->is_order_in_doubt && (wrapper.plan != nullptr || wrapper.in_doubt);
    hold(wrapper.plan, call, wrapper);
    wrapper.in_doubt = call->status == CallStatus::unfinished;
    if (call->is_next_missing) doubt(process, wrapper_class);
    release(process, ready);
    return;
  }
  if (role.is_neighbour && call->status != CallStatus::captured)
    offer_neighbour(process, call, ready);
  if (!role.is_call) return;

  CallInContext context{.call = call, .plan = {}, .init = {}};
  if (call->wrapper.self != 0) {
    const auto wrapper = process.wrappers.find({wrapper_class, call->wrapper.self});
    if (wrapper != process.wrappers.end()) {
      context.init = wrapper->second.init;
      context.has_plan_in_doubt = wrapper->second.in_doubt ||
                                  (wrapper->second.has_doubtful_order && call->is_order_in_doubt);
      if (!context.has_plan_in_doubt) context.plan = wrapper->second.plan;
    }
  }
  for (const Binding* binding : role.bindings) {
    if (!binding->beside || call->status == CallStatus::captured) continue;
    const auto applies = binding->beside->when.evaluate(CallNameResolver(*binding, context));
    if (!applies || !truth(*applies)) continue;
    release(process, ready);
    const auto neighbour = process.last.find(binding->beside->function);
    if (neighbour != process.last.end() && are_beside(*binding, *call, neighbour->second)) {
      context.has_neighbour = true;
      neighbour->second = nullptr;
      break;
    }
    process.waiting = std::move(context);
    return;
  }
  ready.push_back(std::move(context));
}

void Association::finish(std::vector<CallInContext>& ready) {
  for (auto& [id, process] : processes_) release(process, ready);
}

}  // namespace cw
