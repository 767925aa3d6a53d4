#include "call_pattern.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "hooked_function.h"
#include "passed_arguments.h"

namespace cw::recorder {
namespace {

bool is_list(PyTypeObject* type) {
  return type == &PyTuple_Type || type == &PyList_Type;
}

Py_ssize_t size_of_list(PyObject* list) {
  return PyTuple_Check(list) ? PyTuple_Size(list) : PyList_Size(list);
}

PyObject* item_of(PyObject* list, Py_ssize_t index) {
  return PyTuple_Check(list) ? PyTuple_GetItem(list, index) : PyList_GetItem(list, index);
}

// Whether both are described by the same number or text.
bool is_same_value(PyObject* left, PyObject* right) {
  PyTypeObject* const type = Py_TYPE(left);
  if (type != Py_TYPE(right)) return false;
  if (type == &PyFloat_Type)
    return std::bit_cast<std::uint64_t>(PyFloat_AsDouble(left)) ==
           std::bit_cast<std::uint64_t>(PyFloat_AsDouble(right));
  if (type == &PyUnicode_Type) return PyUnicode_Compare(left, right) == 0;
  if (type != &PyLong_Type) return false;
  int is_left_wide = 0, is_right_wide = 0;
  const long long values[] = {PyLong_AsLongLongAndOverflow(left, &is_left_wide),
                              PyLong_AsLongLongAndOverflow(right, &is_right_wide)};
  return values[0] == values[1] && is_left_wide == 0 && is_right_wide == 0;
}

bool has_attributes(const HookedFunction& hooked, PyObject* self) {
  return self != nullptr && !hooked.state.empty();
}

// The wrapper's, if any are read of it; null also where they cannot be.
Ref attributes_of(const HookedFunction& hooked, PyObject* self) {
  return has_attributes(hooked, self) ? recorder::attributes_of(self) : Ref();
}

}  // namespace

// Decides as CallReader does what of a value is described. Classes whose metaclass has a say in
// that are left to it.
class CallPattern::Builder {
 public:
  Builder(CallPattern& pattern, const Types& types) : pattern_(pattern), types_(types) {}

  bool add(PyObject* name, PyObject* value, int depth = 0) {
    if (pattern_.slots_used_ == max_slots) return false;
    Slot& slot = pattern_.slots_[pattern_.slots_used_++];
    slot.name = Ref::borrowed(name);
    if (value == nullptr) return true;

    // Numbers and texts are told by their type where they are in a list.
    PyTypeObject* const type = Py_TYPE(value);
    if (value == Py_None || type == &PyBool_Type) return set(slot, Kind::object, value);
    if (type == &PyLong_Type || type == &PyFloat_Type || type == &PyUnicode_Type)
      return depth > 0 ? add_type(slot, type) : is_short(value) && set(slot, Kind::object, value);

    const bool is_tuple = PyTuple_Check(value) != 0;
    if (is_tuple || is_list(type)) return is_list(type) && depth == 0 && add_list(slot, value);
    if (type == types_.tensor || PyType_IsSubtype(type, types_.tensor) != 0)
      return add_tensor(slot, value);
    if (type == types_.dtype) return set(slot, Kind::object, value);
    if (PyType_IsSubtype(type, types_.enumeration) != 0)
      return Py_TYPE(type) == Py_TYPE(types_.enumeration) && set(slot, Kind::object, value);
    return Py_TYPE(type) == &PyType_Type && add_type(slot, type);
  }

  bool add_attribute(const Ref& attributes, const Ref& name) {
    const std::size_t index = pattern_.slots_used_;
    if (!add(name.get(), attribute_of(attributes.get(), name.get()))) return false;
    PyObject *key = nullptr, *value = nullptr;
    for (Py_ssize_t place = 0, end = 0; PyDict_Next(attributes.get(), &end, &key, &value) != 0;
         place = end)
      if (key == name.get()) pattern_.slots_[index].place = place;
    return true;
  }

 private:
  static bool set(Slot& slot, Kind kind, PyObject* content) {
    slot.kind = kind;
    slot.content = Ref::borrowed(content);
    return true;
  }

  // Not those that are told by their type alone: they may be large, or nobody's business.
  static bool is_short(PyObject* value) {
    if (PyUnicode_Check(value)) return is_option(utf8(value));
    int is_wide = 0;
    if (PyLong_Check(value)) static_cast<void>(PyLong_AsLongLongAndOverflow(value, &is_wide));
    return is_wide == 0;
  }

  // A class may be made for one call: it is not kept alive.
  static bool add_type(Slot& slot, PyTypeObject* type) {
    slot.kind = Kind::type;
    slot.content = Ref(PyWeakref_NewRef(reinterpret_cast<PyObject*>(type), nullptr));
    if (!slot.content) PyErr_Clear();
    return static_cast<bool>(slot.content);
  }

  // One that PyTorch itself reads from where it was found in others: not of a class with ways of
  // its own, whose tensors are not what is in place.
  bool add_tensor(Slot& slot, PyObject* value) {
    PyObject* const type = reinterpret_cast<PyObject*>(Py_TYPE(value));
    const Ref dispatch(PyObject_GetAttrString(type, "__torch_dispatch__")),
        usual(PyObject_GetAttrString(reinterpret_cast<PyObject*>(types_.tensor),
                                     "__torch_dispatch__"));
    clear_error();
    DLTensor known{};
    if (!dispatch || dispatch.get() != usual.get() || types_.exchange->view(value, &known) != 0) {
      clear_error();
      return false;
    }
    const TensorLayout::View view = types_.layout->view(value);
    const auto rank = static_cast<std::uint64_t>(known.dimensions);
    if (rank > TensorLayout::max_rank || pattern_.extents_used_ + rank > max_extents ||
        view.rank != rank || known.shape != view.extents)
      return false;

    slot.count = static_cast<std::uint8_t>(rank);
    slot.type = view.type;
    slot.keys = view.keys;
    std::copy(known.shape, known.shape + rank, pattern_.extents_.begin() + pattern_.extents_used_);
    pattern_.extents_used_ = static_cast<std::uint8_t>(pattern_.extents_used_ + rank);
    return set(slot, Kind::tensor, type);
  }

  bool add_list(Slot& slot, PyObject* list) {
    const Py_ssize_t count = size_of_list(list);
    if (count > static_cast<Py_ssize_t>(max_slots)) return false;
    set(slot, Kind::list, reinterpret_cast<PyObject*>(Py_TYPE(list)));
    slot.count = static_cast<std::uint8_t>(count);
    for (Py_ssize_t i = 0; i < count; ++i)
      if (!add(nullptr, item_of(list, i), 1)) return false;
    return true;
  }

  CallPattern& pattern_;
  const Types& types_;
};

class CallPattern::Comparison {
 public:
  Comparison(const CallPattern& pattern, const TensorLayout& layout)
      : at_(pattern.slots_.data()),
        end_(at_ + pattern.arguments_),
        attributes_end_(at_ + pattern.slots_used_),
        extent_(pattern.extents_.data()),
        layout_(layout) {}

  /// Whether no argument is missing.
  bool is_at_end() const { return at_ == end_; }

  bool is_same(PyObject* name, PyObject* value) {
    if (at_ == end_ || at_->name.get() != name) return false;
    const Slot& slot = *at_++;
    PyObject* const content = slot.content.get();
    if (slot.kind == Kind::object)
      return value == content || (value != nullptr && is_same_value(content, value));
    if (value == nullptr || slot.kind == Kind::absent)
      return value == nullptr && slot.kind == Kind::absent;

    // The others are told by their type, and what is in them.
    PyObject* const type = reinterpret_cast<PyObject*>(Py_TYPE(value));
    if (slot.kind == Kind::type) return PyWeakref_GetObject(content) == type;
    if (type != content) return false;
    return slot.kind == Kind::tensor ? is_same_tensor(slot, value) : are_same_items(slot, value);
  }

  // After the arguments: each at the place where it was before, or wherever it is now.
  bool has_same(PyObject* attributes) {
    end_ = attributes_end_;
    while (at_ != end_) {
      PyObject *key = nullptr, *value = nullptr, *const name = at_->name.get();
      Py_ssize_t place = at_->place;
      if (PyDict_Next(attributes, &place, &key, &value) == 0 || key != name)
        value = attribute_of(attributes, name);
      if (!is_same(name, value)) return false;
    }
    return true;
  }

 private:
  bool is_same_tensor(const Slot& slot, PyObject* value) {
    const TensorLayout::View view = layout_.view(value);
    if (view.rank != slot.count || view.type != slot.type || view.keys != slot.keys) return false;
    for (std::uint8_t i = 0; i < slot.count; ++i)
      if (view.extents[i] != *extent_++) return false;
    return true;
  }

  bool are_same_items(const Slot& slot, PyObject* list) {
    if (size_of_list(list) != static_cast<Py_ssize_t>(slot.count)) return false;
    for (std::uint8_t i = 0; i < slot.count; ++i)
      if (!is_same(nullptr, item_of(list, static_cast<Py_ssize_t>(i)))) return false;
    return true;
  }

  const Slot* at_;
  const Slot* end_;
  const Slot* const attributes_end_;
  const std::int64_t* extent_;
  const TensorLayout& layout_;
};

template <typename Arguments>
std::optional<CallPattern> CallPattern::of(const Types& types,
                                           const ComparedCall<Arguments>& call) {
  // First, as it may allocate, and what runs then may change the arguments.
  const Ref attributes = attributes_of(call.hooked, call.self);
  if (!attributes && has_attributes(call.hooked, call.self)) return {};

  std::optional<CallPattern> pattern(std::in_place);
  pattern->self_ = call.self;
  pattern->flags_ = call.flags;
  Builder builder(*pattern, types);
  const auto add = [&builder](PyObject* name, PyObject* value) { return builder.add(name, value); };
  if (!call.arguments.each(call.hooked.has_self ? 1 : 0, add)) return {};
  pattern->arguments_ = pattern->slots_used_;
  if (attributes)
    for (const auto& [attribute, name] : call.hooked.state)
      if (!builder.add_attribute(attributes, attribute)) return {};
  return pattern;
}

template <typename Arguments>
bool CallPattern::matches(const TensorLayout& layout, const ComparedCall<Arguments>& call,
                          PyObject* attributes) const {
  if (call.self != self_ || call.flags != flags_) return false;
  Comparison comparison(*this, layout);
  const auto is_same = [&comparison](PyObject* name, PyObject* value) {
    return comparison.is_same(name, value);
  };
  return call.arguments.each(call.hooked.has_self ? 1 : 0, is_same) && comparison.is_at_end() &&
         (attributes == nullptr || comparison.has_same(attributes));
}

// The calls of a function come in the order of the step before.
void CallPatterns::expect_after(CallPattern& found) {
  if (&found != expected_ && last_ != nullptr) last_->next = &found;
  last_ = &found;
  expected_ = found.next != nullptr ? found.next : &found;
}

template <typename Arguments>
CallPatterns::Found CallPatterns::find(const Types& types, const ComparedCall<Arguments>& call) {
  if (misses_ > max_misses && ++misses_ % rest != 0) return {.is_resting = true};
  if (expected_ == nullptr) return {};
  const Ref attributes = attributes_of(call.hooked, call.self);
  if (!attributes && has_attributes(call.hooked, call.self)) return {};

  // The one that is expected, or any.
  const auto matches = [&](const CallPattern& pattern) {
    return pattern.matches(*types.layout, call, attributes.get());
  };
  CallPattern* found = matches(*expected_) ? expected_ : nullptr;
  for (CallPattern& pattern : patterns_) {
    if (found != nullptr) break;
    if (&pattern != expected_ && matches(pattern)) found = &pattern;
  }
  if (found == nullptr) return {};
  expect_after(*found);
  found->was_found = true;
  misses_ = 0;
  return {found, found->id};
}

template <typename Arguments>
void CallPatterns::learn(const Types& types, const ComparedCall<Arguments>& call,
                         const Found& found, const Recorder::Sent& sent, bool has_values) {
  if (found.is_resting) return;
  if (found.pattern != nullptr) {
    if (found.pattern->id == found.id) found.pattern->sent = sent;
    return;
  }
  ++misses_;
  if (!sent.is_repeat) return;  // most calls of a prefill never come again

  // In the place of the oldest one that was of no use lately.
  const bool is_full = patterns_.size() == max_patterns;
  CallPattern* place = nullptr;
  if (is_full) {
    place = &patterns_[oldest_++ % max_patterns];
    if (std::exchange(place->was_found, false)) return;
  }
  auto pattern = CallPattern::of(types, call);
  if (!pattern) return;
  pattern->sent = sent;
  pattern->id = ++ids_;
  pattern->has_values = has_values;
  if (!is_full) {
    patterns_.reserve(max_patterns);
    place = &patterns_.emplace_back();
  }
  std::swap(*place, *pattern);
  expect_after(*place);
}

template CallPatterns::Found CallPatterns::find(const Types&, const ComparedCall<PackedArguments>&);
template CallPatterns::Found CallPatterns::find(const Types&, const ComparedCall<PassedArguments>&);
template void CallPatterns::learn(const Types&, const ComparedCall<PackedArguments>&, const Found&,
                                  const Recorder::Sent&, bool);
template void CallPatterns::learn(const Types&, const ComparedCall<PassedArguments>&, const Found&,
                                  const Recorder::Sent&, bool);

}  // namespace cw::recorder
