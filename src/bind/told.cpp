#include "bind/told.h"

#include <algorithm>

namespace cw {

std::optional<std::int64_t> told_count(const Call& call, std::size_t tensor) {
  const auto found =
      std::ranges::find_if(call.told, [tensor](const ToldCount& t) { return t.tensor == tensor; });
  if (found == call.told.end()) return {};
  return static_cast<std::int64_t>(found->used);
}

std::int64_t number_of(std::int64_t extent, const CallInContext& context) {
  const std::int64_t code = unknown_extent - 1 - extent;
  const auto role = static_cast<ContextRole>(code >> 32);
  const auto& call = role == ContextRole::call   ? context.call
                     : role == ContextRole::plan ? context.plan
                                                 : context.init;
  const auto tensor = static_cast<std::size_t>(code & 0xffffffff);
  return call ? told_count(*call, tensor).value_or(unknown_extent) : unknown_extent;
}

}  // namespace cw
