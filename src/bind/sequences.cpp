#include "bind/sequences.h"

#include <algorithm>

#include "bind/name_resolver.h"
#include "bind/view.h"

namespace cw {

Result<std::vector<std::int64_t>> lengths_of(const Binding& binding, const CallInContext& context) {
  const InputBinding* indptr =
      binding.sequences ? binding.input(binding.sequences->indptr) : nullptr;
  if (indptr == nullptr) return fail("not_told", "{}: no lengths", binding.id);
  const auto values_of = [&](const InputBinding& input) -> Result<std::vector<std::int64_t>> {
    CW_TRY(const InputView view, make_view(input, binding, context));
    if (!is_integer(view.dtype) || view.shape.size() != 1)
      return fail("not_told", "{}: no indices", input.name);
    CW_TRY(const auto tensor, view.load());
    return integers(*tensor);
  };
  std::int64_t page_size = 1;
  for (const auto& [axis, expression] : binding.axes)
    if (axis == "page_size")
      if (const auto value = expression.evaluate(CallNameResolver(binding, context)))
        page_size = std::max<std::int64_t>(as_integer(*value).value_or(1), 1);

  CW_TRY(const auto pages, values_of(*indptr));
  std::vector<std::int64_t> last;
  if (const InputBinding* input = binding.input(binding.sequences->last_page);
      input != nullptr && page_size > 1) {
    CW_TRY(last, values_of(*input));
  }
  std::vector<std::int64_t> lengths;
  for (std::size_t i = 1; i < pages.size(); ++i) {
    const std::int64_t count = pages[i] - pages[i - 1];
    const bool has_last = count > 0 && i <= last.size();
    lengths.push_back(has_last ? (count - 1) * page_size + last[i - 1] : count * page_size);
  }
  return lengths;
}

bool is_dummy_batch(const Binding& binding, const std::vector<std::int64_t>& lengths) {
  if (!binding.sequences || binding.sequences->min == 0 || lengths.empty()) return false;
  return std::ranges::all_of(
      lengths, [&binding](std::int64_t length) { return length < binding.sequences->min; });
}

}  // namespace cw
