#include "call_reader.h"

#include <algorithm>
#include <cstring>

namespace cw::recorder {
namespace {

constexpr std::int64_t max_page = 1 << 20;  ///< tokens

// The last element of an index tensor in host memory, as a length.
std::uint64_t last_of(const TensorView& view) {
  std::uint64_t count = 1;
  for (const std::int64_t extent : view.shape) count *= static_cast<std::uint64_t>(extent);
  if (count == 0 || view.data == nullptr || view.type.code != 0 || view.shape.size() != 1)
    return ~std::uint64_t{0};
  const std::int64_t stride = view.strides.empty() ? 1 : view.strides[0];
  const auto* data = static_cast<const std::byte*>(view.data) +
                     static_cast<std::int64_t>(count - 1) * stride * view.type.bits / 8;
  std::int64_t wide = 0;
  std::int32_t narrow = 0;
  if (view.type.bits == 64)
    std::memcpy(&wide, data, sizeof wide);
  else if (view.type.bits == 32)
    std::memcpy(&narrow, data, sizeof narrow), wide = narrow;
  else
    return ~std::uint64_t{0};
  return wide < 0 ? 0 : static_cast<std::uint64_t>(wide);
}

}  // namespace

void CallReader::positional(std::size_t index, PyObject* value) {
  argument(index < hooked_.parameters ? static_cast<std::uint16_t>(index)
                                      : swallowed(index - hooked_.parameters),
           value);
}

void CallReader::read_attributes(PyObject* object, const HookedFunction::Attributes& wanted) {
  const Ref attributes = attributes_of(object);
  if (!attributes) return;
  for (const auto& [attribute, name] : wanted)
    if (PyObject* value = attribute_of(attributes.get(), attribute.get()); value != nullptr)
      plain_argument(name, Ref::borrowed(value).get());
}

// Everything that asks Python is done before the first value is taken: the GIL must not change
// hands until the call is sent.
void CallReader::take_values() {
  if (pending_.empty()) return;
  if (wanted_.are_replayed) return watch_values();
  hooked_.count_values(recorder_.epoch());
  if (!wanted_.are_taken) {
    for (const Pending& item : pending_)
      if (item.rule->is_taken) recorder_.leave_out(call_, item.view, item.tensor);
    return;
  }

  // Streams first, as asking for one may run Python.
  for (Pending& item : pending_)
    if (item.view.is_on_device) item.stream = types_.stream(item.device_id);

  // Page tables last: what is taken of them depends on the lengths.
  for (const bool is_table : {false, true})
    for (Pending& item : pending_)
      if (item.rule->is_taken && item.rule->table.has_value() == is_table) take(item);
}

void CallReader::take(Pending& item) {
  if (const auto table = table_of(*item.rule))
    return recorder_.take_table(call_, item.view, item.tensor, *table, item.stream);

  // If another tensor bounds this one, take no more than it says, if that can be seen.
  std::uint64_t count = ~std::uint64_t{0};
  const Pending* bound = nullptr;
  for (const std::uint16_t name : item.rule->bounds) {
    bound = find(name);
    if (bound != nullptr) break;
  }
  if (bound != nullptr && !bound->view.is_on_device) count = last_of(bound->view);
  item.content = recorder_.take_values(call_, item.view, item.tensor, count, item.stream);
  if (bound != nullptr && bound->content >= 0) recorder_.bound(call_, item.content, bound->content);
}

void CallReader::watch_values() {
  for (const bool is_table : {false, true})
    for (Pending& item : pending_)
      if (item.rule->is_taken && item.rule->table.has_value() == is_table)
        item.content =
            recorder_.watch(call_, item.view, item.tensor, item.device_id, table_of(*item.rule));
  for (const Pending& item : pending_)
    for (const std::uint16_t name : item.rule->bounds)
      if (const Pending* bound = find(name); bound != nullptr && item.content >= 0) {
        if (bound->content >= 0) recorder_.bound(call_, item.content, bound->content);
        break;
      }
}

// Nothing for what is no page table, or one whose lengths are not among the arguments.
std::optional<Recorder::Table> CallReader::table_of(const ContentRule& rule) const {
  if (!rule.table) return {};
  const Pending* const lengths = find(rule.table->lengths);
  const std::size_t from_end = is_nhd_.value_or(rule.table->is_nhd) ? 3 : 2;
  const std::size_t min_rank = rule.table->layout ? 4 : 3;
  if (lengths == nullptr || lengths->content < 0 || page_shape_.size() < min_rank) return {};
  const std::int64_t page = page_shape_[page_shape_.size() - from_end];
  if (page <= 0 || page > max_page) return {};
  return Recorder::Table{.lengths = lengths->content, .page = static_cast<std::uint32_t>(page)};
}

const CallReader::Pending* CallReader::find(std::uint16_t name) const {
  for (const Pending& item : pending_)
    if (item.rule->name == name) return &item;
  return nullptr;
}

std::uint16_t CallReader::add_name(PyObject* text) {
  // For an API that takes any keyword; readers take 512 values per call.
  constexpr std::size_t max_names = 250;
  if (hooked_.names.size() >= max_names) return static_cast<std::uint16_t>(max_names - 1);
  hooked_.names.push_back(Ref::borrowed(text));
  hooked_.description["names"].push_back(std::string(utf8(text)));
  recorder_.add_name(hooked_.number, utf8(text));
  return static_cast<std::uint16_t>(hooked_.names.size() - 1);
}

std::uint16_t CallReader::name_of(PyObject* key) {
  for (std::size_t i = 0; i < hooked_.names.size(); ++i)
    if (hooked_.names[i].get() == key) return static_cast<std::uint16_t>(i);
  for (std::size_t i = 0; i < hooked_.names.size(); ++i)
    if (PyUnicode_Compare(hooked_.names[i].get(), key) == 0) return static_cast<std::uint16_t>(i);
  return add_name(key);
}

// "*0", "*1": what a *args parameter took.
std::uint16_t CallReader::swallowed(std::size_t index) {
  const Ref text(PyUnicode_FromFormat("*%zu", index));
  return name_of(text.get());
}

void CallReader::argument(std::uint16_t name, PyObject* value) {
  if (!hooked_.objects.empty()) {
    // One that others are in, or an explicit None for one of those.
    if (value == Py_None && hooked_.is_within_object(name)) return;
    for (const auto& [parameter, attributes] : hooked_.objects)
      if (parameter == name && value != Py_None) read_attributes(value, attributes);
  }
  plain_argument(name, value);
}

void CallReader::plain_argument(std::uint16_t name, PyObject* value) {
  const std::size_t mark = arguments_.mark(), pending = pending_.size();
  const std::uint16_t tensors = call_.tensors();
  arguments_.name(name);
  argument_ = name;
  write(value, hooked_.rules.empty() ? nullptr : hooked_.rule(name), 0);
  if (arguments_.is_whole()) return;
  arguments_.take_back(mark);  // larger than any real one: left out, with its tensors
  call_.take_back_tensors(tensors);
  pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(pending), pending_.end());
}

void CallReader::write(PyObject* value, const ContentRule* rule, int depth) {
  PyTypeObject* type = Py_TYPE(value);
  if (type == types_.tensor) return tensor(value, rule);
  if (value == Py_None) return arguments_.none();
  if (type == &PyBool_Type) return arguments_.boolean(value == Py_True);
  // In lists only tensors are useful; numbers there could be anything, even tokens.
  if (depth > 0 && (type == &PyLong_Type || type == &PyFloat_Type || type == &PyUnicode_Type))
    return other(value);
  if (type == &PyLong_Type) return integer(value);
  if (type == &PyFloat_Type) return arguments_.real(PyFloat_AsDouble(value));
  if (type == &PyUnicode_Type) return text(value);
  if (PyTuple_Check(value) || type == &PyList_Type) return sequence(value, rule, depth);
  if (types_.tensor != nullptr && PyType_IsSubtype(type, types_.tensor) != 0)
    return tensor(value, rule);
  if (type == types_.dtype) return arguments_.opaque("torch.dtype", dtype_name(value));
  if (PyType_IsSubtype(type, types_.enumeration) != 0) return enumerator(value);
  other(value);
}

// Names of modes and layouts, as APIs take them; never text that a user wrote.
void CallReader::text(PyObject* value) {
  const std::string_view characters = utf8(value);
  for (const ContentRule& rule : hooked_.rules)
    if (rule.table && rule.table->layout == argument_) is_nhd_ = characters == "NHD";
  if (is_option(characters))
    arguments_.text(characters);
  else
    arguments_.opaque("str", "");
}

void CallReader::integer(PyObject* value) {
  const long long number = PyLong_AsLongLong(value);
  if (number == -1 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    return arguments_.opaque("int", "past 64 bits");
  }
  arguments_.integer(number);
}

void CallReader::sequence(PyObject* value, const ContentRule* rule, int depth) {
  const auto max_items = std::min<Py_ssize_t>(16, items_left_);
  constexpr int max_depth = 4;
  const Py_ssize_t length = in_python([value] { return PySequence_Size(value); });
  if (length < 0) clear_error();
  const Py_ssize_t count = depth < max_depth ? std::clamp<Py_ssize_t>(length, 0, max_items) : 0;
  items_left_ -= count;
  arguments_.sequence(static_cast<std::size_t>(count),
                      static_cast<std::size_t>(std::max<Py_ssize_t>(length, 0)));
  for (Py_ssize_t i = 0; i < count; ++i) {
    const Ref item(in_python([=] { return PySequence_GetItem(value, i); }));
    if (!item) clear_error();
    if (item)
      write(item.get(), rule, depth + 1);
    else
      arguments_.none();
  }
}

std::string CallReader::type_name(PyObject* value) {
  const Ref name = attribute(reinterpret_cast<PyObject*>(Py_TYPE(value)), types_.names.name);
  return name && PyUnicode_Check(name.get()) ? std::string(utf8(name.get())) : "object";
}

// Reads the attributes that Python's enum keeps in the member itself.
void CallReader::enumerator(PyObject* value) {
  if (const Ref attributes = attributes_of(value)) {
    PyObject* number = attribute_of(attributes.get(), types_.names.enum_value.get());
    PyObject* member = attribute_of(attributes.get(), types_.names.enum_name.get());
    if (number != nullptr && member != nullptr && PyLong_CheckExact(number) &&
        PyUnicode_Check(member)) {
      const long long plain = PyLong_AsLongLong(number);
      if (PyErr_Occurred() == nullptr)
        return arguments_.enumerator(type_name(value) + "." + std::string(utf8(member)), plain);
    }
  }
  clear_error();
  other(value);
}

// Only the type of everything else. Nothing is called or printed: that may be long, slow or secret.
void CallReader::other(PyObject* value) {
  arguments_.opaque(type_name(value), "");
}

Ref CallReader::attribute(PyObject* object, const Ref& name) {
  Ref found(in_python([&] { return PyObject_GetAttr(object, name.get()); }));
  if (!found) clear_error();
  return found;
}

std::string_view CallReader::dtype_name(PyObject* dtype) {
  auto& known = types_.dtype_names[dtype];
  if (!known.first) {
    const Ref text(in_python([dtype] { return PyObject_Str(dtype); }));
    if (!text) clear_error();
    known = {Ref::borrowed(dtype), std::string(text ? utf8(text.get()) : std::string_view("?"))};
  }
  return known.second;
}

void CallReader::tensor(PyObject* value, const ContentRule* rule) {
  // Through DLPack, which runs no Python; by attributes where torch lacks it.
  TensorView view;
  std::int32_t device_id = 0;
  DLTensor raw{};
  if (types_.exchange != nullptr && types_.exchange->view(value, &raw) == 0) {
    const auto rank = static_cast<std::size_t>(raw.dimensions);
    view.type = {raw.code, raw.bits};
    view.shape = {raw.shape, rank};
    if (raw.strides != nullptr) view.strides = {raw.strides, rank};
    view.data = static_cast<const std::byte*>(raw.data) + raw.byte_offset;
    view.is_on_device = is_on_device(raw);
    device_id = raw.device_id;
  } else if (types_.exchange != nullptr) {
    clear_error();  // traced, fake, or of a layout without memory: asking for more could
                    // change what is traced
    return other(value);
  } else {
    by_attributes(value, view, device_id, rule != nullptr);
  }

  // Its description, and where its values are, if wanted.
  arguments_.tensor(view.type, view.shape, view.is_on_device);
  const std::uint16_t index = call_.tensors();
  call_.address(view.data);
  if (wanted_.are_any && page_shape_.empty())
    for (const ContentRule& other : hooked_.rules)
      if (other.table && other.table->pages == argument_)
        page_shape_.assign(view.shape.begin(), view.shape.end());
  if (rule == nullptr || !wanted_.are_any || view.data == nullptr) return;
  const bool is_integer = view.type.code <= 1;
  if (is_integer || wanted_.are_floats)
    pending_.push_back({.rule = rule,
                        .view = view,
                        .device_id = device_id,
                        .tensor = index,
                        .owner = Ref::borrowed(value)});
}

// For torch before 2.10, and for tensors that DLPack refuses.
void CallReader::by_attributes(PyObject* value, TensorView& view, std::int32_t& device_id,
                               bool wants_strides) {
  const Ref shape = attribute(value, types_.names.shape),
            dtype = attribute(value, types_.names.dtype);
  if (dtype) {
    std::string_view text = dtype_name(dtype.get());
    if (text.starts_with("torch.")) text.remove_prefix(6);
    view.type = element_type(text);
  }

  view.shape = integers(shape.get());
  if (wants_strides) {
    const Ref strides(in_python([value] { return PyObject_CallMethod(value, "stride", nullptr); }));
    if (!strides) clear_error();
    view.strides = integers(strides.get());
    if (view.strides.size() != view.shape.size()) view.strides = {};
  }

  // Its device.
  const Ref device = attribute(value, types_.names.device);
  const Ref kind = device ? attribute(device.get(), types_.names.type) : Ref();
  const Ref number = device ? attribute(device.get(), types_.names.index) : Ref();
  view.is_on_device = kind && PyUnicode_Check(kind.get()) && utf8(kind.get()) != "cpu";
  if (number && PyLong_Check(number.get()))
    device_id = static_cast<std::int32_t>(PyLong_AsLong(number.get()));

  const Ref method = attribute(value, types_.names.data_ptr);
  const Ref address(method ? in_python([&] { return PyObject_CallObject(method.get(), nullptr); })
                           : nullptr);
  if (address && PyLong_Check(address.get())) view.data = PyLong_AsVoidPtr(address.get());
  clear_error();
}

std::span<const std::int64_t> CallReader::integers(PyObject* tuple) {
  if (tuple == nullptr || !PyTuple_Check(tuple)) return {};
  const Py_ssize_t count = std::min<Py_ssize_t>(PyTuple_Size(tuple), 32);
  auto& numbers = integers_.emplace_back();
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* item = PyTuple_GetItem(tuple, i);
    if (!PyLong_CheckExact(item))
      return {};  // symbolic extents: asking for a number would specialize them
    numbers.push_back(PyLong_AsLongLong(item));
  }
  clear_error();
  return numbers;
}

}  // namespace cw::recorder
