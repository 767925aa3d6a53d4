#include "capture/call.h"

#include <algorithm>

namespace cw {

std::shared_ptr<const CallContent> share(CallContent content) {
  content.memory = memory_of(content.arguments);
  return std::make_shared<const CallContent>(std::move(content));
}

const Value* Call::given(std::string_view name) const {
  const auto found = std::ranges::find_if(
      content->arguments, [name](const auto& argument) { return argument.first == name; });
  return found == content->arguments.end() ? nullptr : &found->second;
}

const ToldCount* Call::told_of(std::size_t tensor) const {
  const auto found = std::ranges::find(told, tensor, &ToldCount::tensor);
  return found == told.end() ? nullptr : &*found;
}

Shape Call::shape_of(const Tensor& tensor) const {
  const ToldCount* list = told_of(tensor.entry);
  if (list == nullptr || list->extent == unknown_extent) return tensor.shape;
  return {list->extent};
}

}  // namespace cw
