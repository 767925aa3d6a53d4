#include "bind/needs.h"

#include <algorithm>
#include <set>

namespace cw {
namespace {

// "indptr" from the expression `plan.indptr[-1]`, if that alone bounds the part of a tensor in use.
std::string bound_of(const Transform& step) {
  const auto& end = step.kind == Transform::Kind::first   ? step.argument
                    : step.kind == Transform::Kind::slice ? step.second_argument
                                                          : std::nullopt;
  if (!end) return {};

  std::string_view text = end->text();
  if (!text.starts_with("plan.") || !text.ends_with("[-1]")) return {};
  text = text.substr(5, text.size() - 9);
  const bool is_name =
      text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
      std::string_view::npos;
  return std::string(is_name ? text : std::string_view());
}

// "lengths" from `call.lengths`; empty if it is another expression.
std::string parameter_of_call(std::string_view text) {
  constexpr std::string_view role = "call.";
  return std::string(text.starts_with(role) ? text.substr(role.size()) : std::string_view());
}

// How much of a page table is in use: {lengths, pages, layout}, see recorder/python. Null where a
// binding says it in a way that a recorder cannot follow.
Json table_of(const Binding& binding, const Transform& step) {
  const std::vector<std::string> sizes = step.second_argument->names();
  const InputBinding* const pages = sizes.size() == 1 && sizes[0].starts_with("input.")
                                        ? binding.input(sizes[0].substr(6))
                                        : nullptr;
  const std::string lengths = parameter_of_call(step.argument->text());
  const std::string cache = pages == nullptr ? "" : parameter_of_call(pages->from);
  if (lengths.empty() || cache.empty()) return {};
  Json table = {{"lengths", lengths}, {"pages", cache}};
  if (std::ranges::find(pages->transforms, Transform::Kind::kv_half, &Transform::kind) !=
      pages->transforms.end())
    table["layout"] = "kv_layout";
  return table;
}

// What some binding reads as it is: {function, parameter}. It is not cut for another one.
using WholeTensors = std::set<std::pair<std::string, std::string>>;

WholeTensors whole_tensors_of(const BindingSet& bindings) {
  WholeTensors whole;
  for (const Binding& binding : bindings.bindings())
    for (const InputBinding& input : binding.inputs) {
      const bool is_table = std::ranges::find(input.transforms, Transform::Kind::pages,
                                              &Transform::kind) != input.transforms.end();
      if (const std::string name = parameter_of_call(input.from); !name.empty() && !is_table)
        whole.emplace(binding.function, name);
    }
  return whole;
}

void add_index_values(const Binding& binding, const WholeTensors& whole, Json& values) {
  for (const InputBinding& input : binding.inputs) {
    const std::size_t dot = input.from.find('.');
    if (!input.is_structural || dot == std::string::npos) continue;
    const std::string role = input.from.substr(0, dot), parameter = input.from.substr(dot + 1);
    const std::string& function = role == "plan" ? binding.plan_function : binding.function;
    if (function.empty() || role == "init") continue;

    Json& bounds = values[function][parameter];
    if (bounds.is_null()) bounds = Json::array();
    for (const Transform& step : input.transforms)
      if (step.kind == Transform::Kind::pages && !whole.contains({function, parameter}))
        if (Json table = table_of(binding, step); !table.is_null()) bounds = std::move(table);
    if (!bounds.is_array()) continue;
    for (const Transform& step : input.transforms)
      if (const std::string bound = bound_of(step);
          !bound.empty() && std::find(bounds.begin(), bounds.end(), bound) == bounds.end())
        bounds.push_back(bound);
  }
}

}  // namespace

CaptureNeeds needs_of(const BindingSet& bindings, const std::vector<const Binding*>& selected) {
  CaptureNeeds needs;
  const WholeTensors whole = whole_tensors_of(bindings);
  for (const Binding& binding : bindings.bindings())
    add_index_values(binding, whole, needs.index_values);

  for (const Binding* binding : selected) {
    needs.calls.insert(binding->function);
    needs.plans.insert(binding->plan_function);
    needs.inits.insert(binding->init_function);
    if (!binding->beside) continue;
    needs.neighbours.insert(binding->beside->function);
    const std::size_t dot = binding->beside->function.find('.');
    if (dot != std::string::npos && !binding->plan_function.empty())
      needs.neighbour_plans.insert(binding->beside->function.substr(0, dot) + ".plan");
  }
  for (auto* functions : {&needs.calls, &needs.plans, &needs.inits}) functions->erase("");
  return needs;
}

}  // namespace cw
