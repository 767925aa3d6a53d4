#include "bind/structure.h"

namespace cw {
namespace {

using Values = std::vector<std::int64_t>;
using Found = std::optional<std::string>;

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

// The kernel looks at no entry of a sequence without a page; engines that fill batches up leave 0
// there.
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

Found violation(Check::Kind kind, const CheckedValues& checked) {
  using Kind = Check::Kind;
  for (const DenseTensor* tensor : {&checked.subject, checked.other, checked.last_page_len})
    if (tensor != nullptr && !is_integer(tensor->dtype))
      return fmt::format("is checked against {}, not integers", trace_name(tensor->dtype));
  switch (kind) {
    case Kind::indptr:
      return bad_indptr(integers(checked.subject));
    case Kind::indices:
      return out_of_range(checked.subject, 0, checked.limit - 1);
    case Kind::indices_or_pad:
      return out_of_range(checked.subject, -1, checked.limit - 1);
    case Kind::last_page_len:
      return wrong_last_pages(checked.subject, integers(*checked.other), checked.limit);
    case Kind::one_each:
      return not_one_each(integers(checked.subject));
    case Kind::lengths:
      return wrong_lengths(integers(checked.subject), integers(*checked.other), checked.page_size);
    case Kind::causal_lengths:
      return fewer_keys_than_queries(
          integers(checked.subject), integers(*checked.other),
          checked.last_page_len ? integers(*checked.last_page_len) : Values(), checked.page_size);
  }
  return {};
}

}  // namespace cw
