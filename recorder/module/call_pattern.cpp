#include "call_pattern.h"

#include <algorithm>
#include <bit>

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

// Whether both are described by the same number.
bool is_same_number(PyObject* left, PyObject* right) {
  PyTypeObject* const type = Py_TYPE(left);
  if (type != Py_TYPE(right)) return false;
  if (type == &PyFloat_Type)
    return std::bit_cast<std::uint64_t>(PyFloat_AsDouble(left)) ==
           std::bit_cast<std::uint64_t>(PyFloat_AsDouble(right));
  if (type != &PyLong_Type) return false;
  int is_left_wide = 0, is_right_wide = 0;
  const long long values[] = {PyLong_AsLongLongAndOverflow(left, &is_left_wide),
                              PyLong_AsLongLongAndOverflow(right, &is_right_wide)};
  return values[0] == values[1] && is_left_wide == 0 && is_right_wide == 0;
}

// The wrapper's attributes; null: they cannot be read.
Ref attributes_of(PyObject* self) {
  Ref attributes(PyObject_GenericGetDict(self, nullptr));
  if (attributes && PyDict_Check(attributes.get())) return attributes;
  PyErr_Clear();
  return {};
}

PyObject* attribute_of(PyObject* attributes, PyObject* name) {
  PyObject* const value = PyDict_GetItemWithError(attributes, name);
  if (value == nullptr) PyErr_Clear();
  return value;
}

}  // namespace

// Decides as CallReader does what of a value is described.
class CallPattern::Builder {
 public:
  Builder(CallPattern& pattern, const Types& types) : pattern_(pattern), types_(types) {}

  bool add(PyObject* name, PyObject* value, int depth = 0) {
    if (pattern_.slots_used_ == max_slots) return false;
    Slot& slot = pattern_.slots_[pattern_.slots_used_++];
    slot.name = Ref::borrowed(name);
    if (value == nullptr) return true;

    PyTypeObject* const type = Py_TYPE(value);
    const bool is_number_or_text =
        type == &PyLong_Type || type == &PyFloat_Type || type == &PyUnicode_Type;
    slot.kind = Kind::object;
    slot.content = Ref::borrowed(value);
    if (value == Py_None || type == &PyBool_Type) return true;
    if (is_number_or_text && depth == 0) return true;

    const bool is_tuple = PyTuple_Check(value) != 0;
    if (is_tuple || is_list(type)) return is_list(type) && depth == 0 && add_list(slot, value);
    if (type == types_.tensor || PyType_IsSubtype(type, types_.tensor) != 0)
      return add_tensor(slot, value);
    if (type == types_.dtype || PyType_IsSubtype(type, types_.enumeration) != 0) return true;
    slot.kind = Kind::type;
    slot.content = Ref::borrowed(reinterpret_cast<PyObject*>(type));
    return true;
  }

  bool add_attribute(const Ref& attributes, const Ref& name) {
    const std::size_t index = pattern_.slots_used_;
    if (!add(name.get(), attribute_of(attributes.get(), name.get()))) return false;
    PyObject *key = nullptr, *value = nullptr;
    for (Py_ssize_t place = 0, next = 0; PyDict_Next(attributes.get(), &next, &key, &value) != 0;
         place = next)
      if (key == name.get()) pattern_.slots_[index].place = place;
    return true;
  }

 private:
  // One whose extents are where they were found in others.
  bool add_tensor(Slot& slot, PyObject* value) {
    DLTensor known{};
    if (types_.exchange->view(value, &known) != 0) {
      PyErr_Clear();
      return false;
    }
    const TensorLayout::View view = types_.layout->view(value);
    const auto rank = static_cast<std::uint64_t>(known.dimensions);
    if (rank > TensorLayout::max_rank || pattern_.extents_used_ + rank > max_extents ||
        view.rank != rank || !std::equal(known.shape, known.shape + rank, view.extents))
      return false;

    slot.kind = Kind::tensor;
    slot.content = Ref::borrowed(reinterpret_cast<PyObject*>(Py_TYPE(value)));
    slot.count = static_cast<std::uint8_t>(rank);
    slot.type = view.type;
    std::copy(known.shape, known.shape + rank, pattern_.extents_.begin() + pattern_.extents_used_);
    pattern_.extents_used_ = static_cast<std::uint8_t>(pattern_.extents_used_ + rank);
    return true;
  }

  bool add_list(Slot& slot, PyObject* list) {
    const Py_ssize_t count = size_of_list(list);
    if (count > static_cast<Py_ssize_t>(max_slots)) return false;
    slot.kind = Kind::list;
    slot.content = Ref::borrowed(reinterpret_cast<PyObject*>(Py_TYPE(list)));
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
      return value == content || (value != nullptr && is_same_number(content, value));
    if (value == nullptr || slot.kind == Kind::absent)
      return value == nullptr && slot.kind == Kind::absent;

    // The others are told by their type, and what is in them.
    if (reinterpret_cast<PyObject*>(Py_TYPE(value)) != content) return false;
    if (slot.kind == Kind::tensor) return is_same_tensor(slot, value);
    return slot.kind == Kind::type || are_same_items(slot, value);
  }

  // After the arguments: each at the place where it was before, or wherever it is now.
  bool has_same(const Ref& attributes) {
    end_ = attributes_end_;
    while (at_ != end_) {
      PyObject *key = nullptr, *value = nullptr, *const name = at_->name.get();
      Py_ssize_t place = at_->place;
      if (PyDict_Next(attributes.get(), &place, &key, &value) == 0 || key != name)
        value = attribute_of(attributes.get(), name);
      if (!is_same(name, value)) return false;
    }
    return true;
  }

 private:
  bool is_same_tensor(const Slot& slot, PyObject* value) {
    const TensorLayout::View view = layout_.view(value);
    if (view.rank != slot.count || view.type != slot.type) return false;
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
std::optional<CallPattern> CallPattern::of(const Types& types, const HookedFunction& hooked,
                                           PyObject* self, std::uint8_t flags,
                                           const Arguments& arguments) {
  std::optional<CallPattern> pattern(std::in_place);
  pattern->self_ = self;
  pattern->flags_ = flags;
  Builder builder(*pattern, types);
  const auto add = [&builder](PyObject* name, PyObject* value) { return builder.add(name, value); };
  if (!arguments.each(hooked.has_self ? 1 : 0, add)) return {};
  pattern->arguments_ = pattern->slots_used_;

  if (self == nullptr || hooked.state.empty()) return pattern;
  const Ref attributes = attributes_of(self);
  if (!attributes) return {};
  for (const auto& [attribute, name] : hooked.state)
    if (!builder.add_attribute(attributes, attribute)) return {};
  return pattern;
}

template <typename Arguments>
bool CallPattern::matches(const TensorLayout& layout, const HookedFunction& hooked, PyObject* self,
                          std::uint8_t flags, const Arguments& arguments) const {
  if (self != self_ || flags != flags_) return false;
  Comparison comparison(*this, layout);
  const auto is_same = [&comparison](PyObject* name, PyObject* value) {
    return comparison.is_same(name, value);
  };
  if (!arguments.each(hooked.has_self ? 1 : 0, is_same) || !comparison.is_at_end()) return false;

  if (self == nullptr || hooked.state.empty()) return true;
  const Ref attributes = attributes_of(self);
  return attributes && comparison.has_same(attributes);
}

// The calls of a function come in the order of the step before.
void CallPatterns::expect_after(CallPattern& found) {
  if (&found != expected_ && last_ != nullptr) last_->next = &found;
  last_ = &found;
  expected_ = found.next != nullptr ? found.next : &found;
}

template <typename Arguments>
CallPattern* CallPatterns::find(const Types& types, const HookedFunction& hooked, PyObject* self,
                                std::uint8_t flags, const Arguments& arguments) {
  if (expected_ == nullptr) return nullptr;
  const auto matches = [&](const CallPattern& pattern) {
    return pattern.matches(*types.layout, hooked, self, flags, arguments);
  };
  CallPattern* found = matches(*expected_) ? expected_ : nullptr;
  for (CallPattern& pattern : patterns_) {
    if (found != nullptr) break;
    if (&pattern != expected_ && matches(pattern)) found = &pattern;
  }
  if (found != nullptr) expect_after(*found);
  return found;
}

template <typename Arguments>
void CallPatterns::learn(const Types& types, const HookedFunction& hooked, PyObject* self,
                         std::uint8_t flags, const Arguments& arguments,
                         const Recorder::Sent& sent) {
  if (CallPattern* const known = find(types, hooked, self, flags, arguments); known != nullptr) {
    known->sent = sent;
    return;
  }
  if (!sent.is_repeat) return;  // most calls of a prefill never come again
  auto pattern = CallPattern::of(types, hooked, self, flags, arguments);
  if (!pattern) return;
  pattern->sent = sent;

  // In place of the oldest one, which is freed last: that may run foreign code.
  patterns_.reserve(max_patterns);
  const bool is_full = patterns_.size() == max_patterns;
  CallPattern& place = is_full ? patterns_[oldest_++ % max_patterns] : patterns_.emplace_back();
  std::swap(place, *pattern);
  expect_after(place);
}

template CallPattern* CallPatterns::find(const Types&, const HookedFunction&, PyObject*,
                                         std::uint8_t, const PackedArguments&);
template CallPattern* CallPatterns::find(const Types&, const HookedFunction&, PyObject*,
                                         std::uint8_t, const PassedArguments&);
template void CallPatterns::learn(const Types&, const HookedFunction&, PyObject*, std::uint8_t,
                                  const PackedArguments&, const Recorder::Sent&);
template void CallPatterns::learn(const Types&, const HookedFunction&, PyObject*, std::uint8_t,
                                  const PassedArguments&, const Recorder::Sent&);

}  // namespace cw::recorder
