#include "capture/call.h"

#include <algorithm>

namespace cw {

const Value* Call::given(std::string_view name) const {
  const auto found = std::ranges::find_if(
      arguments, [name](const auto& argument) { return argument.first == name; });
  return found == arguments.end() ? nullptr : &found->second;
}

}  // namespace cw
