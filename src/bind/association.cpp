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
  if (!binding.beside || !neighbour || binding.beside->function != neighbour->content->function)
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
  return others + call.content->memory;
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
    const auto p = as_number(to_operand(*a)), q = as_number(to_operand(*b));
    return p && q && *p == *q;
  }
  const Shape shape = left.shape_of(*x);
  if (x->dtype != y->dtype || shape != right.shape_of(*y)) return false;
  if (left.address(*x) != 0 && right.address(*y) != 0) return left.address(*x) == right.address(*y);
  const std::uint64_t count = std::min(*element_count(shape), compared_bytes * 8 / bits(x->dtype));
  const auto front = read_front(*x, count), other = read_front(*y, count);
  return front && other && front->bytes == other->bytes;
}

bool Association::Role::is_on_its_own() const {
  const auto needs_others = [](const Binding* binding) {
    return !binding->plan_function.empty() || !binding->init_function.empty() || binding->beside;
  };
  return is_call && !is_plan && !is_init && !is_neighbour &&
         std::ranges::none_of(bindings, needs_others);
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

  std::map<std::string, std::uint32_t> classes;
  for (auto& [function, role] : roles_)
    role.wrapper_class =
        classes.try_emplace(class_of(function), static_cast<std::uint32_t>(classes.size()))
            .first->second;
}

const Association::Role* Association::role_of(const std::string& function) const {
  const auto found = roles_.find(function);
  return found == roles_.end() ? nullptr : &found->second;
}

void Association::doubt(Process& process, std::uint32_t wrapper_class) {
  for (auto& [id, wrapper] : process.wrappers)
    if (id.first == wrapper_class) wrapper.in_doubt = true;
}

void Association::drop(Held& held) {
  if (!held.call) return;
  held_bytes_ -= memory_of(*held.call);
  held_.erase(held.place);
  held.call = nullptr;
}

void Association::hold(Held& held, std::shared_ptr<const Call> call, Wrapper& wrapper) {
  drop(held);
  held_bytes_ += memory_of(*call);
  held.call = std::move(call);
  held.place = held_.emplace(held_.end(), &wrapper, &held);
  while (held_bytes_ > max_held && held_.size() > 1) {
    const auto [owner, oldest] = held_.front();
    drop(*oldest);
    owner->in_doubt = true;
  }
}

void Association::add_unreadable(const std::string& function, std::uint32_t folder,
                                 std::int64_t process) {
  const auto role = roles_.find(function);
  if (role != roles_.end() && role->second.is_plan)
    doubt(processes_[{folder, process}], role->second.wrapper_class);
}

Association::Process& Association::process_of(const Call& call) {
  const ProcessId id{call.wrapper.folder, call.wrapper.process};
  if (last_process_.second == nullptr || last_process_.first != id)
    last_process_ = {id, &processes_[id]};
  return *last_process_.second;
}

void Association::release(Process& process, std::vector<CallInContext>& ready) {
  if (!process.waiting) return;
  ready.push_back(std::move(*process.waiting));
  process.waiting.reset();
}

void Association::offer_neighbour(Process& process, const std::shared_ptr<const Call>& call,
                                  std::vector<CallInContext>& ready) {
  if (process.waiting) {
    for (const Binding* binding : roles_.at(process.waiting->call->content->function).bindings)
      if (are_beside(*binding, *process.waiting->call, call)) {
        // This one is spoken for: it cannot be the neighbour of a later call too.
        process.waiting->has_neighbour = true;
        release(process, ready);
        return;
      }
  }
  process.last[call->content->function] = call;
}

void Association::add(std::shared_ptr<const Call> call, std::vector<CallInContext>& ready) {
  if (const Role* role = role_of(call->content->function)) add(*role, std::move(call), ready);
}

void Association::add(const Role& role, std::shared_ptr<const Call> call,
                      std::vector<CallInContext>& ready) {
  Process& process = process_of(*call);
  const WrapperKey key{role.wrapper_class, call->wrapper.self};

  if (role.is_init) {
    Wrapper& wrapper = process.wrappers[key];
    drop(wrapper.plan);
    hold(wrapper.init, call, wrapper);
    wrapper.in_doubt = wrapper.has_doubtful_order = false;
    return;
  }
  if (role.is_plan) {
    Wrapper& wrapper = process.wrappers[key];
    wrapper.has_doubtful_order =
        call->is_order_in_doubt && (wrapper.plan.call != nullptr || wrapper.in_doubt);
    hold(wrapper.plan, call, wrapper);
    wrapper.in_doubt = call->status == CallStatus::unfinished;
    if (call->is_next_missing) doubt(process, role.wrapper_class);
    release(process, ready);
    return;
  }
  if (role.is_neighbour && call->status != CallStatus::captured)
    offer_neighbour(process, call, ready);
  if (!role.is_call) return;

  CallInContext context{.call = call, .plan = {}, .init = {}};
  if (call->wrapper.self != 0) {
    const auto wrapper = process.wrappers.find(key);
    if (wrapper != process.wrappers.end()) {
      context.init = wrapper->second.init.call;
      context.has_plan_in_doubt = wrapper->second.in_doubt ||
                                  (wrapper->second.has_doubtful_order && call->is_order_in_doubt);
      if (!context.has_plan_in_doubt) context.plan = wrapper->second.plan.call;
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
