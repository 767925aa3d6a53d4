#include "bind/view.h"

#include <algorithm>
#include <limits>

#include "bind/name_resolver.h"
#include "bind/told.h"

namespace cw {
namespace {

using Loaded = Result<std::shared_ptr<const DenseTensor>>;
using Loader = std::function<Loaded()>;

// FlashInfer's own default, flashinfer.decode.BatchDecodeWithPagedKVCacheWrapper.__init__:
// kv_layout="NHD".
constexpr std::string_view default_layout = "NHD";

constexpr std::int64_t max_broadcast = 1 << 24;

std::shared_ptr<const DenseTensor> share(DenseTensor tensor) {
  return std::make_shared<const DenseTensor>(std::move(tensor));
}

template <typename... Args>
tl::unexpected<Error> shape_error(fmt::format_string<Args...> format, Args&&... args) {
  return fail("input_shape", format, std::forward<Args>(args)...);
}

// `shape` is the tensor's as symbols say it, and `whole` as its call does.
InputView view_of(const Tensor& tensor, Shape shape, Shape whole) {
  return {tensor.dtype, std::move(shape), [tensor, whole = std::move(whole)]() -> Loaded {
            CW_TRY(DenseTensor dense, read_all(tensor, whole));
            return share(std::move(dense));
          }};
}

// The same elements in another shape.
InputView reshape(InputView view, Shape shape) {
  view.load = [load = std::move(view.load), shape]() -> Loaded {
    CW_TRY(const auto before, load());
    return share({before->dtype, shape, before->bytes});
  };
  view.shape = std::move(shape);
  return view;
}

// Elements picked out of another view: source[i] is the position of element i.
InputView pick(InputView view, Shape shape, std::function<std::uint64_t(std::uint64_t)> source) {
  const std::size_t size = bits(view.dtype) / 8;
  view.load = [load = std::move(view.load), shape, source = std::move(source), size]() -> Loaded {
    CW_TRY(const auto before, load());
    if (size == 0) return fail("unsupported_dtype", "elements of half a byte cannot be indexed");
    DenseTensor picked{before->dtype, shape, {}};
    const std::uint64_t count = *element_count(shape);
    picked.bytes.reserve(count * size);
    for (std::uint64_t i = 0; i < count; ++i)
      picked.bytes.append(before->bytes, source(i) * size, size);
    return share(std::move(picked));
  };
  view.shape = std::move(shape);
  return view;
}

std::uint64_t product(const Shape& shape) {
  return element_count(shape).value_or(0);
}

// Applies the steps. The first sees the recorded value, each later one the view before it.
class Builder {
 public:
  Builder(const InputBinding& input, const Binding& binding, const CallInContext& context)
      : input_(input), binding_(binding), context_(context), names_(binding, context) {}

  Result<InputView> build() {
    const auto is_given = [](const Argument& argument) {
      return argument.value != nullptr && !argument.value->is_none();
    };
    Argument argument = resolve(input_.from, binding_, context_);
    const bool is_other = !is_given(argument) && !input_.other_from.empty();
    if (is_other) argument = resolve(input_.other_from, binding_, context_);
    value_ = argument.value;
    owner_ = argument.owner;
    if (!is_given(argument))
      return fail("input_missing", "input {} comes from {}, which was not given", input_.name,
                  input_.from);
    if (const Tensor* tensor = value_->tensor()) view_ = view(*tensor);
    for (const Transform& step : is_other ? input_.other_transforms : input_.transforms)
      CW_CHECK(apply(step));
    if (!view_)
      return fail("input_missing", "input {} comes from {}, which is not a tensor in this call",
                  input_.name, input_.from);

    // Runs of one plan share what they take from it.
    if (argument.owner == context_.plan.get())
      view_->load = [load = std::move(view_->load), plan = context_.plan,
                     key = &input_]() -> Loaded {
        return plan->remember(key, [&load]() -> Result<DenseTensor> {
          CW_TRY(const auto tensor, load());
          return *tensor;
        });
      };
    return std::move(*view_);
  }

 private:
  Result<void> apply(const Transform& step) {
    using Kind = Transform::Kind;

    // Steps on what may not be a tensor.
    if (step.kind == Kind::part) return view_ ? Result<void>() : take_of_pair(step.first_number);
    if (step.kind == Kind::kv_half) return kv_half(step.first_number);
    if (step.kind == Kind::expert_ids) return expert_ids();
    if (step.kind == Kind::broadcast) return broadcast(*step.argument);
    if (!view_)
      return fail("input_missing", "input {}: {} is not a tensor in this call", input_.name,
                  input_.from);

    // Steps on a tensor. Of one whose length is only told, most need the number; these see to it
    // themselves.
    const bool sees = step.kind == Kind::rebase || step.kind == Kind::last_page_len ||
                      step.kind == Kind::first || step.kind == Kind::slice;
    if (!sees) CW_CHECK(need_numbers());
    switch (step.kind) {
      case Kind::first:
        return first(*step.argument);
      case Kind::slice:
        return slice(*step.argument, *step.second_argument);
      case Kind::rebase:
        return rebase();
      case Kind::drop_axis:
        return drop_axis(step.first_number, step.second_number);
      case Kind::slice_last:
        return slice_last(step.first_number, step.second_number);
      case Kind::flatten_rows:
        return flatten_rows();
      case Kind::split_last:
        return split_last(*step.argument);
      case Kind::unpack_fp4:
        return unpack_fp4();
      case Kind::page_indptr:
        return page_indptr(*step.argument);
      case Kind::pages:
        return pages(*step.argument, *step.second_argument);
      default:
        return last_page_len(*step.argument);
    }
  }

  InputView view(const Tensor& tensor) const {
    return view_of(tensor, shape_in(context_, *owner_, tensor), owner_->shape_of(tensor));
  }

  // That what follows depends on the view's extents.
  Result<void> need_numbers() const {
    meet_all(view_->shape, context_);
    if (has_told(view_->shape, context_)) return fail(depends_on_told, "input {}", input_.name);
    return {};
  }

  Result<std::int64_t> number(const Expression& expression) const {
    CW_TRY(const Operand value, expression.evaluate(names_));
    const auto integer = as_integer(value);
    if (!integer || *integer < 0)
      return shape_error("input {}: {} is {}, not a count", input_.name, expression.text(),
                         describe(value));
    return *integer;
  }

  Result<void> take_of_pair(std::int64_t which) {
    const auto* pair = std::get_if<Sequence>(&value_->data);
    const auto index = static_cast<std::size_t>(which);
    if (pair == nullptr || pair->items.size() != 2 || pair->items[index].tensor() == nullptr)
      return shape_error("input {}: {} is neither a tensor nor a pair of them", input_.name,
                         input_.from);
    view_ = view(*pair->items[index].tensor());
    return {};
  }

  // (K, V), or one tensor with both on axis 1; 3-D halves have page size 1 and no page axis. Only
  // the wrapper's constructor, or a function that needs no wrapper, records the layout; otherwise
  // the shape tells, unless page size and number of heads are equal.
  Result<void> kv_half(std::int64_t half) {
    const bool packed = view_.has_value();
    if (packed) {
      CW_CHECK(need_numbers());
      if (view_->shape.size() != 5 || view_->shape[1] != 2)
        return shape_error(
            "input {}: a KV cache in one tensor has 5 axes, the second of extent 2; this one is {}",
            input_.name, to_string(view_->shape));
      const Shape shape{view_->shape[0], view_->shape[2], view_->shape[3], view_->shape[4]};
      const std::uint64_t page = product(Shape(shape.begin() + 1, shape.end()));
      view_ = pick(std::move(*view_), shape, [page, half](std::uint64_t i) {
        return i / page * 2 * page + static_cast<std::uint64_t>(half) * page + i % page;
      });
    } else {
      CW_CHECK(take_of_pair(half));
      CW_CHECK(need_numbers());
    }

    // A copy: the view is moved among the call's arguments, whose evaluation order is unspecified.
    const Shape shape = view_->shape;
    if (shape.size() == 3) {
      view_ = reshape(std::move(*view_), {shape[0], 1, shape[1], shape[2]});
      return {};
    }
    if (shape.size() != 4)
      return shape_error("input {}: a KV cache has 3 or 4 axes, not {}", input_.name,
                         to_string(shape));
    CW_TRY(const bool heads_first, is_hnd(shape));
    if (!heads_first) return {};
    const auto heads = static_cast<std::uint64_t>(shape[1]),
               page = static_cast<std::uint64_t>(shape[2]),
               dim = static_cast<std::uint64_t>(shape[3]);
    view_ = pick(std::move(*view_), {shape[0], shape[2], shape[1], shape[3]},
                 [heads, page, dim](std::uint64_t i) {
                   const std::uint64_t d = i % dim, h = i / dim % heads, p = i / dim / heads % page,
                                       block = i / dim / heads / page;
                   return ((block * heads + h) * page + p) * dim + d;
                 });
    return {};
  }

  Result<bool> is_hnd(const Shape& shape) {
    Operand recorded;
    for (const char* name : {"state.kv_layout", "init.kv_layout", "call.kv_layout"})
      if (is_none(recorded)) {
        CW_TRY(recorded, names_.value_of(name));
      }
    if (const auto* layout = std::get_if<std::string>(&recorded)) return *layout == "HND";
    CW_TRY(const Operand page_size, names_.value_of("plan.page_size"));
    CW_TRY(const Operand heads, names_.value_of("plan.num_kv_heads"));
    const auto page = as_integer(page_size), kv_heads = as_integer(heads);
    if (page && kv_heads && *page != *kv_heads) {
      if (shape[1] == *page && shape[2] == *kv_heads) return false;
      if (shape[2] == *page && shape[1] == *kv_heads) return true;
    }
    view_->is_derived = page && kv_heads && *page == *kv_heads;
    return default_layout == "HND";
  }

  Result<void> first(const Expression& count_of) {
    const auto counted = number(count_of);
    if (!counted && is_not_kept(counted.error().code)) return first_as_told(counted.error());
    CW_TRY(const std::int64_t count, counted);
    CW_CHECK(need_numbers());
    if (view_->shape.empty() || count > view_->shape[0])
      return shape_error("input {}: {} = {} entries of a tensor {}", input_.name, count_of.text(),
                         count, to_string(view_->shape));

    if (count == view_->shape[0]) return {};
    Shape shape = view_->shape;
    shape[0] = count;

    // For the front of a long buffer, read no more than that.
    const Tensor* tensor = value_->tensor();
    if (tensor != nullptr && owner_->shape_of(*tensor) == view_->shape) {
      view_->load = [tensor = *tensor, shape]() -> Loaded {
        CW_TRY(DenseTensor front, read_front(tensor, product(shape)));
        front.shape = shape;
        return share(std::move(front));
      };
      view_->shape = std::move(shape);
    } else {
      view_ = pick(std::move(*view_), std::move(shape), [](std::uint64_t i) { return i; });
    }
    return {};
  }

  Result<void> slice(const Expression& begin_of, const Expression& end_of) {
    const auto begin = number(begin_of);
    if (!begin && is_not_kept(begin.error().code)) return first_as_told(begin.error());
    CW_CHECK(begin);
    CW_CHECK(first(end_of));
    if (*begin == 0 || view_->shape.empty() || view_->shape[0] == unknown_extent) return {};
    CW_CHECK(need_numbers());
    if (*begin > view_->shape[0])
      return shape_error("input {}: entries from {} = {} on of {}", input_.name, begin_of.text(),
                         *begin, to_string(view_->shape));
    Shape shape = view_->shape;
    shape[0] -= *begin;
    const std::uint64_t before =
        static_cast<std::uint64_t>(*begin) * product(Shape(shape.begin() + 1, shape.end()));
    view_ =
        pick(std::move(*view_), std::move(shape), [before](std::uint64_t i) { return before + i; });
    return {};
  }

  Result<void> rebase() {
    view_->load = [load = std::move(view_->load)]() -> Loaded {
      CW_TRY(const auto before, load());
      if (!is_integer(before->dtype)) return before;  // left to the checks to report
      std::vector<std::int64_t> values = integers(*before);
      if (values.empty() || values[0] == 0) return before;
      const std::int64_t first = values[0];
      for (std::int64_t& value : values) value -= first;
      return share(from_integers(before->dtype, before->shape, values));
    };
    return {};
  }

  // The count is in values that were not kept; the capture may know it without them.
  Result<void> first_as_told(const Error& why) {
    if (view_->shape.empty()) return tl::unexpected(why);
    const Tensor* tensor = value_->tensor();
    std::optional<std::int64_t> told;
    if (tensor != nullptr && view_->shape.size() == 1) told = used_count(*owner_, tensor->entry);
    return take_told(told, why);
  }

  // One axis of a length that is told, or not even that.
  Result<void> take_told(std::optional<std::int64_t> told, const Error& why) {
    const Tensor* tensor = value_->tensor();
    if (told && context_.symbols)
      told = symbol_of({.role = role_of(*owner_, context_),
                        .kind = ToldNumber::Kind::used,
                        .tensor = static_cast<std::uint32_t>(tensor->entry)});
    view_->shape = {told.value_or(unknown_extent)};
    view_->load = [why]() -> Loaded { return tl::unexpected(why); };
    return {};
  }

  Result<void> drop_axis(std::int64_t axis, std::int64_t rank) {
    Shape shape = view_->shape;
    if (static_cast<std::int64_t>(shape.size()) == rank) return {};
    if (static_cast<std::int64_t>(shape.size()) != rank + 1 ||
        shape[static_cast<std::size_t>(axis)] != 1)
      return shape_error("input {}: {} cannot lose axis {}", input_.name, to_string(shape), axis);
    shape.erase(shape.begin() + axis);
    view_ = reshape(std::move(*view_), std::move(shape));
    return {};
  }

  Result<void> slice_last(std::int64_t begin, std::int64_t end) {
    Shape shape = view_->shape;
    if (!shape.empty() && shape.back() == end - begin) return {};
    if (shape.empty() || shape.back() < end)
      return shape_error("input {}: {} has no entries {} to {} on its last axis", input_.name,
                         to_string(shape), begin, end);
    const auto from = static_cast<std::uint64_t>(shape.back()),
               to = static_cast<std::uint64_t>(end - begin),
               offset = static_cast<std::uint64_t>(begin);
    shape.back() = end - begin;
    view_ = pick(std::move(*view_), std::move(shape),
                 [from, to, offset](std::uint64_t i) { return i / to * from + offset + i % to; });
    return {};
  }

  Result<void> flatten_rows() {
    const Shape shape = view_->shape;  // copied, as above
    if (shape.size() <= 2) return {};
    const auto rows = static_cast<std::int64_t>(product(Shape(shape.begin(), shape.end() - 1)));
    view_ = reshape(std::move(*view_), Shape{rows, shape.back()});
    return {};
  }

  Result<void> split_last(const Expression& size) {
    Shape shape = view_->shape;
    if (shape.size() == 3) return {};  // heads already have their own axis
    CW_TRY(const std::int64_t inner, number(size));
    if (shape.empty() || inner == 0 || shape.back() % inner != 0)
      return shape_error("input {}: the last axis of {} does not split into rows of {}",
                         input_.name, to_string(shape), inner);
    shape.back() /= inner;
    shape.push_back(inner);
    view_ = reshape(std::move(*view_), std::move(shape));
    return {};
  }

  Result<void> unpack_fp4() {
    const bool is_packed = view_->dtype == DType::uint8 || view_->dtype == DType::float4_e2m1;
    if (!is_packed || view_->shape.empty()) return {};
    view_->shape.back() *= 2;
    view_->dtype = DType::float4_e2m1;
    return {};
  }

  Result<void> last_page_len(const Expression& size) {
    CW_TRY(const std::int64_t page, number(size));
    if (page == 0 || !is_integer(view_->dtype))
      return shape_error("input {}: no page size", input_.name);
    return each(
        [page](std::int64_t length) { return length <= 0 ? page : (length - 1) % page + 1; });
  }

  Result<void> page_indptr(const Expression& size) {
    CW_TRY(const std::int64_t page, number(size));
    if (page == 0 || !is_integer(view_->dtype) || view_->shape.size() != 1)
      return shape_error("input {}: {} are no lengths of sequences", input_.name,
                         to_string(view_->shape));
    if (view_->shape[0] >= std::numeric_limits<std::int64_t>::max())
      return shape_error("input {}: {} lengths", input_.name, view_->shape[0]);
    const Shape shape{view_->shape[0] + 1};
    view_->load = [load = std::move(view_->load), shape, page]() -> Loaded {
      CW_TRY(const auto before, load());
      std::vector<std::int64_t> indptr{0};
      for (const std::int64_t length : integers(*before)) {
        std::int64_t next = 0;
        if (__builtin_add_overflow(indptr.back(), pages_in(length, page), &next))
          return shape_error("lengths whose pages cannot be counted");
        indptr.push_back(next);
      }
      return share(from_integers(before->dtype, shape, indptr));
    };
    view_->shape = shape;
    return {};
  }

  // The first entries of each row. A recording holds just these, one row after another.
  Result<void> pages(const Expression& lengths_of, const Expression& size) {
    const Tensor* tensor = value_->tensor();
    if (tensor == nullptr || view_->shape.size() != 2 || !is_integer(view_->dtype))
      return shape_error("input {}: a page table has 2 axes, this one is {}", input_.name,
                         to_string(view_->shape));
    const auto rows = static_cast<std::size_t>(view_->shape[0]),
               width = static_cast<std::size_t>(view_->shape[1]);
    CW_TRY(const std::int64_t page, number(size));
    CW_TRY(const Operand operand, lengths_of.evaluate(names_));
    const auto* lengths = std::get_if<TensorOperand>(&operand);
    if (page == 0 || lengths == nullptr || !is_integer(lengths->dtype))
      return shape_error("input {}: {} are no lengths of sequences", input_.name,
                         lengths_of.text());

    const ToldCount* const told = owner_->told_of(tensor->entry);
    const auto values = lengths->values();
    if (!values && is_not_kept(values.error().code)) {
      const bool is_told = told != nullptr && told->is_packed;
      return take_told(
          is_told ? std::optional(static_cast<std::int64_t>(told->used)) : std::nullopt,
          values.error());
    }
    CW_CHECK(values);

    // How many of each row.
    std::vector<std::uint64_t> counts;
    std::uint64_t all = 0;
    for (const std::int64_t length : integers(**values)) {
      counts.push_back(static_cast<std::uint64_t>(pages_in(length, page)));
      all += counts.back();
    }
    if (counts.size() != rows || std::ranges::any_of(counts, [width](auto n) { return n > width; }))
      return shape_error("input {}: a page table {} is too small for the sequences' lengths",
                         input_.name, to_string(view_->shape));
    const Shape shape{static_cast<std::int64_t>(all)};
    if (told != nullptr && told->is_packed) {
      if (told->used != all)
        return shape_error("input {}: {} pages were recorded, the lengths need {}", input_.name,
                           told->used, all);
      view_->load = [tensor = *tensor, all]() -> Loaded {
        CW_TRY(DenseTensor packed, read_front(tensor, all));
        return share(std::move(packed));
      };
      view_->shape = shape;
      return {};
    }

    std::vector<std::uint64_t> places;
    places.reserve(all);
    for (std::size_t row = 0; row < rows; ++row)
      for (std::uint64_t i = 0; i < counts[row]; ++i) places.push_back(row * width + i);
    view_ = pick(std::move(*view_), shape,
                 [places = std::move(places)](std::uint64_t i) { return places[i]; });
    return {};
  }

  static std::int64_t pages_in(std::int64_t length, std::int64_t page) {
    return length <= 0 ? 0 : (length - 1) / page + 1;
  }

  // topk_ids of routed MoE: ids alone, (ids, weights), or id << 16 | bfloat16 weight in one int32.
  Result<void> expert_ids() {
    if (const auto* pair = std::get_if<Sequence>(&value_->data)) {
      if (pair->items.size() != 2 || pair->items[0].tensor() == nullptr)
        return shape_error("input {}: {} is neither a tensor nor a pair of them", input_.name,
                           input_.from);
      view_ = view(*pair->items[0].tensor());
      return {};
    }
    if (!view_ || view_->dtype != DType::int32)
      return shape_error("input {}: expected packed int32", input_.name);
    return each([](std::int64_t packed) { return packed >> 16; });
  }

  Result<void> each(std::function<std::int64_t(std::int64_t)> change) {
    view_->load = [load = std::move(view_->load), change = std::move(change)]() -> Loaded {
      CW_TRY(const auto before, load());
      std::vector<std::int64_t> values = integers(*before);
      for (std::int64_t& value : values) value = change(value);
      return share(from_integers(before->dtype, before->shape, values));
    };
    return {};
  }

  Result<void> broadcast(const Expression& size) {
    if (view_) return {};
    CW_TRY(const std::int64_t count, number(size));
    const auto* integer = std::get_if<std::int64_t>(&value_->data);
    const auto* real = std::get_if<double>(&value_->data);
    if (integer == nullptr && real == nullptr)
      return shape_error("input {}: {} is neither a tensor nor a number", input_.name, input_.from);

    DenseTensor entry{DType::float32, {}, {}};
    if (integer != nullptr) {
      entry = from_integers(DType::int64, {}, std::span(integer, 1));
    } else {
      const auto narrow = static_cast<float>(*real);
      entry.bytes.assign(reinterpret_cast<const char*>(&narrow), sizeof narrow);
    }

    // Created on demand.
    view_ = InputView{entry.dtype, {count}, [entry, count]() -> Loaded {
                        if (count > max_broadcast)
                          return fail("too_large", "a scalar for {} rows", count);
                        DenseTensor tensor{entry.dtype, {count}, {}};
                        for (std::int64_t i = 0; i < count; ++i) tensor.bytes += entry.bytes;
                        return share(std::move(tensor));
                      }};
    return {};
  }

  const InputBinding& input_;
  const Binding& binding_;
  const CallInContext& context_;
  CallNameResolver names_;
  const Value* value_ = nullptr;
  const Call* owner_ = nullptr;
  std::optional<InputView> view_;
};

}  // namespace

Result<InputView> make_view(const InputBinding& input, const Binding& binding,
                            const CallInContext& context) {
  return Builder(input, binding, context).build();
}

}  // namespace cw
