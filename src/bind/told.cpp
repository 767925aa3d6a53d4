#include "bind/told.h"

#include <algorithm>

namespace cw {

// Below unknown_extent: two bits of the role, one of the kind, 32 of the tensor.
std::int64_t symbol_of(const ToldNumber& told) {
  const std::int64_t code = static_cast<std::int64_t>(told.role) << 33 |
                            static_cast<std::int64_t>(told.kind) << 32 | told.tensor;
  return unknown_extent - 1 - code;
}

ToldNumber told_number(std::int64_t symbol) {
  const std::int64_t code = unknown_extent - 1 - symbol;
  return {.role = static_cast<ContextRole>(code >> 33),
          .kind = static_cast<ToldNumber::Kind>(code >> 32 & 1),
          .tensor = static_cast<std::uint32_t>(code)};
}

void meet(std::int64_t extent, const CallInContext& context) {
  if (is_told(extent, context)) context.symbols->met.push_back(told_number(extent));
}

ContextRole role_of(const Call& owner, const CallInContext& context) {
  return &owner == context.call.get()   ? ContextRole::call
         : &owner == context.plan.get() ? ContextRole::plan
                                        : ContextRole::init;
}

Shape shape_in(const CallInContext& context, const Call& owner, const Tensor& tensor) {
  Shape shape = owner.shape_of(tensor);
  const ToldCount* told = context.symbols ? owner.told_of(tensor.entry) : nullptr;
  if (told == nullptr || told->extent < 2 || told->has_values) return shape;

  const ToldNumber number{.role = role_of(owner, context),
                          .kind = ToldNumber::Kind::extent,
                          .tensor = static_cast<std::uint32_t>(tensor.entry)};
  const auto& known = context.symbols->known;
  if (std::ranges::find(known, number) == known.end()) shape[0] = symbol_of(number);
  return shape;
}

std::optional<std::int64_t> used_count(const Call& call, std::size_t tensor) {
  const ToldCount* told = call.told_of(tensor);
  if (told == nullptr) return {};
  return static_cast<std::int64_t>(told->used);
}

std::int64_t number_of(const ToldNumber& told, const CallInContext& context) {
  const auto& call = told.role == ContextRole::call   ? context.call
                     : told.role == ContextRole::plan ? context.plan
                                                      : context.init;
  const ToldCount* found = call ? call->told_of(told.tensor) : nullptr;
  if (found == nullptr) return unknown_extent;
  return told.kind == ToldNumber::Kind::extent ? found->extent
                                               : static_cast<std::int64_t>(found->used);
}

}  // namespace cw
