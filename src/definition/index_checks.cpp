#include "definition/index_checks.h"

namespace cw {
namespace {

using Values = std::vector<std::int64_t>;
using Found = std::optional<std::string>;
using SharedTensor = std::shared_ptr<const DenseTensor>;

Found bad_indptr(const Values& v) {
  if (v.empty()) return "is empty";
  if (v[0] != 0) return fmt::format("starts at {}, not 0", v[0]);
  for (std::size_t i = 1; i < v.size(); ++i)
    if (v[i] < v[i - 1]) return fmt::format("falls from {} to {} at entry {}", v[i - 1], v[i], i);
  return {};
}

Found out_of_range(const DenseTensor& tensor, std::int64_t low, std::int64_t high) {
  const auto range = integer_range(tensor);
  if (!range || (range->first >= low && range->second <= high)) return {};
  const Values v = integers(tensor);
  for (std::size_t i = 0; i < v.size(); ++i)
    if (v[i] < low || v[i] > high)
      return fmt::format("entry {} is {}, outside {} to {}", i, v[i], low, high);
  return {};
}

Found not_one_each(const Values& v) {
  for (std::size_t i = 0; i < v.size(); ++i)
    if (v[i] != static_cast<std::int64_t>(i))
      return fmt::format("entry {} is {}: not one query a sequence", i, v[i]);
  return {};
}

Found wrong_lengths(const Values& lengths, const Values& indptr, std::int64_t page_size) {
  if (indptr.size() != lengths.size() + 1)
    return fmt::format("has {} entries for an indptr of {}", lengths.size(), indptr.size());
  for (std::size_t i = 0; i < lengths.size(); ++i)
    if ((lengths[i] <= 0 ? 0 : (lengths[i] - 1) / page_size + 1) != indptr[i + 1] - indptr[i])
      return fmt::format("sequence {} has length {} and {} pages of {}", i, lengths[i],
                         indptr[i + 1] - indptr[i], page_size);
  return {};
}

// The kernel reads no entry of a sequence without pages; engines that pad batches leave 0 there.
Found wrong_last_pages(const DenseTensor& lengths, const Values& indptr, std::int64_t page_size) {
  const auto range = integer_range(lengths);
  if (!range || (range->first >= 1 && range->second <= page_size)) return {};
  const Values v = integers(lengths);
  for (std::size_t i = 0; i < v.size(); ++i) {
    const bool is_empty = i + 1 < indptr.size() && indptr[i + 1] == indptr[i];
    if (v[i] < (is_empty ? 0 : 1) || v[i] > page_size)
      return fmt::format("entry {} is {}, outside 1 to {}", i, v[i], page_size);
  }
  return {};
}

Found fewer_keys_than_queries(const Values& qo, const Values& kv, const Values& last_page_len,
                              std::int64_t page_size) {
  if (qo.size() != kv.size())
    return fmt::format("has {} entries, the keys' indptr {}", qo.size(), kv.size());
  for (std::size_t i = 1; i < qo.size(); ++i) {
    std::int64_t keys = (kv[i] - kv[i - 1]) * page_size;
    if (keys > 0 && i <= last_page_len.size()) keys += last_page_len[i - 1] - page_size;
    if (qo[i] - qo[i - 1] > keys)
      return fmt::format(
          "sequence {} has {} queries for {} keys: causal attention has none for the first of them",
          i - 1, qo[i] - qo[i - 1], keys);
  }
  return {};
}

}  // namespace

Found violation(IndexCheck::Kind kind, const IndexTensors& tensors) {
  using enum IndexCheck::Kind;

  for (const DenseTensor* tensor : {&tensors.subject, tensors.other, tensors.last_page_len})
    if (tensor != nullptr && !is_integer(tensor->dtype))
      return fmt::format("is checked against {}, not integers", trace_name(tensor->dtype));

  switch (kind) {
    case indptr:
      return bad_indptr(integers(tensors.subject));
    case indices:
      return out_of_range(tensors.subject, 0, tensors.limit - 1);
    case indices_or_pad:
      return out_of_range(tensors.subject, -1, tensors.limit - 1);
    case last_page_len:
      return wrong_last_pages(tensors.subject, integers(*tensors.other), tensors.limit);
    case one_each:
      return not_one_each(integers(tensors.subject));
    case lengths:
      return wrong_lengths(integers(tensors.subject), integers(*tensors.other), tensors.page_size);
    case causal_lengths:
      return fewer_keys_than_queries(
          integers(tensors.subject), integers(*tensors.other),
          tensors.last_page_len ? integers(*tensors.last_page_len) : Values(), tensors.page_size);
  }
  return {};
}

Result<void> evaluate(const IndexCheck& check, const Definition& definition,
                      const NameResolver& names) {
  const auto values_of = [&names](const std::string& name) -> Result<SharedTensor> {
    CW_TRY(const Operand operand, names.value_of(name));
    const auto* tensor = std::get_if<TensorOperand>(&operand);
    if (tensor == nullptr) return nullptr;
    return tensor->values();
  };
  const auto given_values_of = [&values_of](const std::string& name) -> Result<SharedTensor> {
    CW_TRY(SharedTensor values, values_of(name));
    if (!values) return fail("input_missing", "{} is not given", name);
    return values;
  };

  // The tensors: last pages only where the definition has them.
  CW_TRY(const SharedTensor subject, given_values_of(check.subject));
  SharedTensor other, last_page_len;
  if (!check.other.empty()) {
    CW_TRY(other, given_values_of(check.other));
  }
  if (definition.input(check.last_page) != nullptr) {
    CW_TRY(last_page_len, values_of(check.last_page));
  }

  // The bounds.
  std::int64_t limit = 0;
  if (check.limit) {
    CW_TRY(const Operand value, check.limit->evaluate(names));
    if (!as_integer(value)) return fail("axes_unknown", "{} is not a number", check.limit->text());
    limit = *as_integer(value);
  }
  const Axis* page = definition.axis("page_size");
  const std::int64_t page_size =
      page != nullptr && page->constant ? std::max<std::int64_t>(*page->constant, 1) : 1;

  const IndexTensors tensors{*subject, other.get(), last_page_len.get(), limit, page_size};
  if (const auto found = violation(check.kind, tensors))
    return fail("structure", "{} {}", check.subject, *found);
  return {};
}

}  // namespace cw
