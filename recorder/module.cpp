// The recorder as a Python module, for every CPython from 3.10 on (limited API).
//
// hook() gives the callable that stands in for a function: it notes the call and makes it. Whatever goes wrong while noting
// disables the recorder with one line on stderr; the call is made all the same. Everything runs under the GIL, which is
// what makes the engine's threads take turns.
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <unordered_map>

#include <unistd.h>

#include "core/recorder.h"

namespace cw::recorder {
namespace {

// ------------------------------------------------------------------------------------------------ DLPack's exchange API
// Tensors without Python: dlpack.h 1.3, struct DLPackExchangeAPI, found as torch.Tensor.__dlpack_c_exchange_api__.

struct DLTensor {
  void* data;
  std::int32_t device_type, device_id;
  std::int32_t dimensions;
  std::uint8_t code, bits;
  std::uint16_t lanes;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

struct ExchangeApi {
  std::uint32_t major, minor;
  void* older;
  void* unused[3];  // what makes tensors and what takes ownership
  int (*view)(void* object, DLTensor* out);
  int (*current_stream)(std::int32_t device_type, std::int32_t device_id, void** out);
};

constexpr std::int32_t on_cpu = 1, on_cuda = 2, on_pinned_host = 3;

// --------------------------------------------------------------------------------------------------------- small things

// An owned reference.
class Ref {
 public:
  Ref() = default;
  explicit Ref(PyObject* object) : object_(object) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() { Py_XDECREF(object_); }
  static Ref borrowed(PyObject* object) {
    Py_XINCREF(object);
    return Ref(object);
  }
  PyObject* get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_ = nullptr;
};

// What the engine's own code raised while a call was noted (a signal handler's KeyboardInterrupt, say): the engine's to have.
struct EnginesException {};

// Clears an error of the noting.
void clear_error() {
  if (PyErr_Occurred() == nullptr) return;
  if (PyErr_ExceptionMatches(PyExc_Exception) == 0) throw EnginesException();
  PyErr_Clear();
}

std::string_view utf8(PyObject* text) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(text, &size);
  if (data == nullptr) {
    PyErr_Clear();
    return {};
  }
  return {data, static_cast<std::size_t>(size)};
}

struct ContentRule {
  std::uint16_t name;                 ///< the parameter
  bool is_taken = true;               ///< false: it only bounds others
  std::vector<std::uint16_t> bounds;  ///< parameters whose last element says how much counts, the best first
};

struct Site {
  Json description;  ///< as Recorder::add_site takes it
  Ref function;
  std::vector<Ref> names;  ///< interned, so that most compare by address
  std::size_t parameters = 0;
  bool has_self = false;
  std::vector<std::pair<Ref, std::uint16_t>> state;  ///< attributes of self, and the names they are recorded by
  std::vector<ContentRule> rules;
  std::uint32_t number = 0;
  bool is_plan = false;
  std::uint64_t calls = 0;  ///< with values that are wanted

  std::uint64_t epoch = 0;  ///< when values were taken last

  /// Of the calls that are no plans there may be one a layer, with the same values in each. Of those, one a plan is taken;
  /// and of all, the first and then an ever smaller part, so that each octave of calls gives as many as the last.
  bool takes_values(std::uint64_t now) {
    constexpr unsigned first_octaves = 9;
    const auto octave = static_cast<unsigned>(std::bit_width(calls++));
    const bool is_taken = is_plan || now != epoch || octave <= first_octaves ||
                          (calls & ((std::uint64_t{1} << (octave - first_octaves)) - 1)) == 0;
    if (is_taken) epoch = now;
    return is_taken;
  }

  const ContentRule* rule(std::uint16_t name) const {
    for (const ContentRule& candidate : rules)
      if (candidate.name == name) return &candidate;
    return nullptr;
  }
};

// What a thread is in the middle of. In one place, because finding what is thread-local is not free in a library.
struct ThreadState {
  int call_depth = 0, dummy_depth = 0;
  std::uint64_t captured_graph = 0;
  std::vector<std::unique_ptr<Recorder::CallBuilder>> builders;
  std::size_t used_builders = 0;
};
thread_local ThreadState this_thread;

// One builder for each call that is being noted: what an argument does when it is asked for its attributes may be a call.
class BuilderLease {
 public:
  explicit BuilderLease(ThreadState& thread) : thread_(thread) {
    if (thread.used_builders == thread.builders.size())
      thread.builders.push_back(std::make_unique<Recorder::CallBuilder>());
    builder_ = thread.builders[thread.used_builders++].get();
  }
  ~BuilderLease() { --thread_.used_builders; }
  BuilderLease(const BuilderLease&) = delete;
  BuilderLease& operator=(const BuilderLease&) = delete;
  Recorder::CallBuilder& get() const { return *builder_; }

 private:
  ThreadState& thread_;
  Recorder::CallBuilder* builder_;
};

// ------------------------------------------------------------------------------------------------------- the one recorder

struct Module {
  RecorderOptions options;
  bool keeps_values = false;
  std::unique_ptr<Recorder> recorder;
  std::vector<std::unique_ptr<Site>> sites;
  bool is_off = false, is_stopped = false;
  pid_t process = 0;

  PyTypeObject* tensor_type = nullptr;
  const ExchangeApi* exchange = nullptr;
  Ref raw_stream;  ///< torch._C._cuda_getCurrentRawStream, where the exchange API is missing
  PyTypeObject* enum_type = nullptr;
  Ref shape, dtype, data_ptr, device, index, type, name, enum_value, enum_name;  // interned attribute names
  PyTypeObject* dtype_type = nullptr;
  std::unordered_map<PyObject*, std::pair<Ref, std::string>> dtype_names;

  void disable(const char* why) {
    if (is_off) return;
    is_off = true;
    std::fprintf(stderr, "collect-workloads recorder: off in process %d: %s\n", static_cast<int>(::getpid()), why);
  }

  // Started with the first call: most processes never make one, and threads do not survive a fork.
  Recorder* on() {
    if (is_off) return nullptr;
    if (!recorder) start();
    if (!recorder->is_on()) {
      is_off = true;
      return nullptr;
    }
    return recorder.get();
  }

  void start() {
    process = ::getpid();
    char host[256] = "host";
    ::gethostname(host, sizeof host - 1);
    const auto first_line = [](const char* path) {
      std::string line;
      std::getline(std::ifstream(path), line);
      return line;
    };
    const auto now = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch());
    RecorderOptions started = options;
    started.name = std::string(host) + "-" + std::to_string(process) + "-" + std::to_string(now.count() / 1'000'000);
    started.header["host"] = host;
    started.header["process"] = process;
    started.header["program"] = first_line("/proc/self/comm");
    started.header["boot"] = first_line("/proc/sys/kernel/random/boot_id");
    started.header["started"] = now.count();
    started.header["keeps_values"] = keeps_values;
    recorder = std::make_unique<Recorder>(std::move(started));
    for (const auto& site : sites) site->number = recorder->add_site(site->description);
  }
};

Module* module_state = nullptr;

// ------------------------------------------------------------------------------------------------------ reading arguments

class CallReader {
 public:
  CallReader(Module& module, Recorder& recorder, Site& site, Recorder::CallBuilder& call, bool wants_values)
      : module_(module), recorder_(recorder), site_(site), call_(call), arguments_(call.arguments()),
        wants_values_(wants_values) {}

  void read(PyObject* positional, PyObject* keywords) {
    const Py_ssize_t count = PyTuple_Size(positional);
    for (Py_ssize_t i = site_.has_self ? 1 : 0; i < count; ++i) {
      const auto index = static_cast<std::size_t>(i);
      argument(index < site_.parameters ? static_cast<std::uint16_t>(i) : swallowed(index - site_.parameters),
               PyTuple_GetItem(positional, i));
    }
    PyObject *key = nullptr, *value = nullptr;
    for (Py_ssize_t at = 0; PyDict_Next(keywords, &at, &key, &value);) argument(name_of(key), value);
  }

  // Attributes that plan() or forward() left on the wrapper.
  void read_state(PyObject* self) {
    // From its dictionary: that runs nobody's code, and what is missing costs nothing.
    const Ref attributes(PyObject_GenericGetDict(self, nullptr));
    if (!attributes || !PyDict_Check(attributes.get())) return clear_error();
    for (const auto& [attribute, name] : site_.state) {
      PyObject* value = PyDict_GetItemWithError(attributes.get(), attribute.get());
      if (value != nullptr) argument(name, Ref::borrowed(value).get());
    }
    clear_error();
  }

  // All that asks Python is done before the first of it: until the call is sent the GIL must not change hands.
  void take_values() {
    if (pending_.empty()) return;
    if (!site_.takes_values(recorder_.epoch())) {
      for (const Pending& item : pending_)
        if (item.rule->is_taken) recorder_.leave_out(call_, item.view, item.tensor);
      return;
    }
    for (Pending& item : pending_) item.stream = stream(item);
    for (Pending& item : pending_) {
      if (!item.rule->is_taken) continue;
      std::uint64_t count = ~std::uint64_t{0};
      const Pending* bound = nullptr;
      for (const std::uint16_t name : item.rule->bounds) {
        bound = find(name);
        if (bound != nullptr) break;
      }
      if (bound != nullptr && !bound->view.is_on_device) count = last_of(bound->view);
      item.content = recorder_.take_values(call_, item.view, item.tensor, count, item.stream);
      if (bound != nullptr && bound->view.is_on_device && bound->content >= 0)
        recorder_.bound(call_, item.content, bound->content);
    }
  }

 private:
  struct Pending {
    const ContentRule* rule;
    TensorView view;
    std::int32_t device_id;
    std::uint16_t tensor;
    std::int16_t content = -1;
    void* stream = nullptr;
    Ref owner;  ///< the tensor: its caller's list may let it go meanwhile
  };

  const Pending* find(std::uint16_t name) const {
    for (const Pending& item : pending_)
      if (item.rule->name == name) return &item;
    return nullptr;
  }

  static std::uint64_t last_of(const TensorView& view) {
    std::uint64_t count = 1;
    for (const std::int64_t extent : view.shape) count *= static_cast<std::uint64_t>(extent);
    if (count == 0 || view.data == nullptr || view.type.code != 0 || view.shape.size() != 1) return ~std::uint64_t{0};
    const std::int64_t stride = view.strides.empty() ? 1 : view.strides[0];
    const auto* data = static_cast<const std::byte*>(view.data) + static_cast<std::int64_t>(count - 1) * stride * view.type.bits / 8;
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

  void* stream(const Pending& item) {
    if (!item.view.is_on_device) return nullptr;
    void* found = nullptr;
    if (module_.exchange != nullptr) {
      if (module_.exchange->current_stream(on_cuda, item.device_id, &found) == 0) return found;
      clear_error();
    }
    if (module_.raw_stream) {
      const Ref handle(PyObject_CallFunction(module_.raw_stream.get(), "i", static_cast<int>(item.device_id)));
      if (handle) found = PyLong_AsVoidPtr(handle.get());
      clear_error();
    }
    return found;
  }

  std::uint16_t add_name(PyObject* text) {
    constexpr std::size_t most_names = 1000;  // of an API that takes any keyword
    if (site_.names.size() >= most_names) return static_cast<std::uint16_t>(most_names - 1);
    site_.names.push_back(Ref::borrowed(text));
    site_.description["names"].push_back(std::string(utf8(text)));
    recorder_.add_name(site_.number, utf8(text));
    return static_cast<std::uint16_t>(site_.names.size() - 1);
  }

  std::uint16_t name_of(PyObject* key) {
    for (std::size_t i = 0; i < site_.names.size(); ++i)
      if (site_.names[i].get() == key) return static_cast<std::uint16_t>(i);
    for (std::size_t i = 0; i < site_.names.size(); ++i)
      if (PyUnicode_Compare(site_.names[i].get(), key) == 0) return static_cast<std::uint16_t>(i);
    return add_name(key);
  }

  // "*0", "*1": what a *args parameter took.
  std::uint16_t swallowed(std::size_t index) {
    const Ref text(PyUnicode_FromFormat("*%zu", index));
    return name_of(text.get());
  }

  void argument(std::uint16_t name, PyObject* value) {
    const std::size_t mark = arguments_.mark(), pending = pending_.size();
    const std::uint16_t tensors = call_.tensors();
    arguments_.name(name);
    write(value, site_.rules.empty() ? nullptr : site_.rule(name), 0);
    if (arguments_.is_whole()) return;
    arguments_.take_back(mark);  // larger than any real one: left out, with its tensors
    call_.take_back_tensors(tensors);
    pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(pending), pending_.end());
  }

  void write(PyObject* value, const ContentRule* rule, int depth) {
    PyTypeObject* type = Py_TYPE(value);
    if (type == module_.tensor_type) return tensor(value, rule);
    if (value == Py_None) return arguments_.none();
    if (type == &PyBool_Type) return arguments_.boolean(value == Py_True);
    // Within lists only tensors are of use; numbers there could be anything, tokens too.
    if (depth > 0 && (type == &PyLong_Type || type == &PyFloat_Type || type == &PyUnicode_Type)) return other(value);
    if (type == &PyLong_Type) return integer(value);
    if (type == &PyFloat_Type) return arguments_.real(PyFloat_AsDouble(value));
    if (type == &PyUnicode_Type) return text(value);
    if (PyTuple_Check(value) || type == &PyList_Type) return sequence(value, rule, depth);
    if (module_.tensor_type != nullptr && PyType_IsSubtype(type, module_.tensor_type) != 0) return tensor(value, rule);
    if (module_.dtype_type != nullptr && type == module_.dtype_type) return arguments_.opaque("torch.dtype", dtype_name(value));
    if (module_.enum_type != nullptr && PyType_IsSubtype(type, module_.enum_type) != 0) return enumerator(value);
    other(value);
  }

  // Names of modes and layouts, as APIs take them; never a text that somebody wrote.
  void text(PyObject* value) {
    const std::string_view characters = utf8(value);
    const bool is_option = characters.size() <= 24 && std::all_of(characters.begin(), characters.end(), [](unsigned char c) {
      return c < 128 && (std::isalnum(c) != 0 || c == '_');
    });
    if (is_option)
      arguments_.text(characters);
    else
      arguments_.opaque("str", "");
  }

  void integer(PyObject* value) {
    const long long number = PyLong_AsLongLong(value);
    if (number == -1 && PyErr_Occurred() != nullptr) {
      PyErr_Clear();
      return arguments_.opaque("int", "past 64 bits");
    }
    arguments_.integer(number);
  }

  void sequence(PyObject* value, const ContentRule* rule, int depth) {
    const auto most_items = std::min<Py_ssize_t>(16, items_left_);
    constexpr int most_depth = 4;
    const Py_ssize_t length = PySequence_Size(value);
    if (length < 0) clear_error();
    const Py_ssize_t count = depth < most_depth ? std::clamp<Py_ssize_t>(length, 0, most_items) : 0;
    items_left_ -= count;
    arguments_.sequence(static_cast<std::size_t>(count), static_cast<std::size_t>(std::max<Py_ssize_t>(length, 0)));
    for (Py_ssize_t i = 0; i < count; ++i) {
      const Ref item(PySequence_GetItem(value, i));
      if (!item) clear_error();
      if (item)
        write(item.get(), rule, depth + 1);
      else
        arguments_.none();
    }
  }

  std::string type_name(PyObject* value) {
    const Ref name(PyObject_GetAttr(reinterpret_cast<PyObject*>(Py_TYPE(value)), module_.name.get()));
    if (name && PyUnicode_Check(name.get())) return std::string(utf8(name.get()));
    clear_error();
    return "object";
  }

  // By the attributes that Python's enum keeps in the member itself.
  void enumerator(PyObject* value) {
    const Ref attributes(PyObject_GenericGetDict(value, nullptr));
    if (attributes && PyDict_Check(attributes.get())) {
      PyObject* number = PyDict_GetItemWithError(attributes.get(), module_.enum_value.get());
      PyObject* member = PyDict_GetItemWithError(attributes.get(), module_.enum_name.get());
      if (number != nullptr && member != nullptr && PyLong_CheckExact(number) && PyUnicode_Check(member)) {
        const long long plain = PyLong_AsLongLong(number);
        if (PyErr_Occurred() == nullptr) return arguments_.enumerator(type_name(value) + "." + std::string(utf8(member)), plain);
      }
    }
    clear_error();
    other(value);
  }

  // Of everything else only the type. Nothing of it is called or printed: that may be long, slow or somebody's secret.
  void other(PyObject* value) { arguments_.opaque(type_name(value), ""); }

  Ref attribute(PyObject* object, const Ref& attribute_name) {
    Ref found(PyObject_GetAttr(object, attribute_name.get()));
    if (!found) clear_error();
    return found;
  }

  std::string_view dtype_name(PyObject* dtype) {
    auto& known = module_.dtype_names[dtype];
    if (!known.first) {
      const Ref text(PyObject_Str(dtype));
      if (!text) clear_error();
      known = {Ref::borrowed(dtype), std::string(text ? utf8(text.get()) : std::string_view("?"))};
    }
    return known.second;
  }

  void tensor(PyObject* value, const ContentRule* rule) {
    TensorView view;
    std::int32_t device_id = 0;
    DLTensor raw{};
    if (module_.exchange != nullptr && module_.exchange->view(value, &raw) == 0) {
      const auto rank = static_cast<std::size_t>(raw.dimensions);
      view.type = {raw.code, raw.bits};
      view.shape = {raw.shape, rank};
      if (raw.strides != nullptr) view.strides = {raw.strides, rank};
      view.data = static_cast<const std::byte*>(raw.data) + raw.byte_offset;
      view.is_on_device = raw.device_type != on_cpu && raw.device_type != on_pinned_host;
      device_id = raw.device_id;
    } else if (module_.exchange != nullptr) {
      clear_error();  // a tracer's, a fake, or of a layout without memory: asking it more could change what is traced
      return other(value);
    } else {
      by_attributes(value, view, device_id, rule != nullptr);
    }
    arguments_.tensor(view.type, view.shape, view.is_on_device);
    const std::uint16_t index = call_.tensors();
    call_.address(view.data);
    if (rule == nullptr || !wants_values_ || view.data == nullptr) return;
    const bool is_integer = view.type.code <= 1;
    if (is_integer || module_.keeps_values) pending_.push_back({.rule = rule, .view = view, .device_id = device_id, .tensor = index, .owner = Ref::borrowed(value)});
  }

  // What torch before 2.10 has, and tensors that DLPack refuses.
  void by_attributes(PyObject* value, TensorView& view, std::int32_t& device_id, bool wants_strides) {
    const Ref shape = attribute(value, module_.shape), dtype = attribute(value, module_.dtype);
    if (dtype) {
      std::string_view text = dtype_name(dtype.get());
      if (text.starts_with("torch.")) text.remove_prefix(6);
      view.type = element_type(text);
    }
    view.shape = integers(shape.get());
    if (wants_strides) {
      const Ref strides(PyObject_CallMethod(value, "stride", nullptr));
      if (!strides) clear_error();
      view.strides = integers(strides.get());
      if (view.strides.size() != view.shape.size()) view.strides = {};
    }
    const Ref device = attribute(value, module_.device);
    const Ref kind = device ? attribute(device.get(), module_.type) : Ref();
    const Ref number = device ? attribute(device.get(), module_.index) : Ref();
    view.is_on_device = kind && PyUnicode_Check(kind.get()) && utf8(kind.get()) != "cpu";
    if (number && PyLong_Check(number.get())) device_id = static_cast<std::int32_t>(PyLong_AsLong(number.get()));
    const Ref method = attribute(value, module_.data_ptr);
    const Ref address(method ? PyObject_CallObject(method.get(), nullptr) : nullptr);
    if (address && PyLong_Check(address.get())) view.data = PyLong_AsVoidPtr(address.get());
    clear_error();
  }

  std::span<const std::int64_t> integers(PyObject* tuple) {
    if (tuple == nullptr || !PyTuple_Check(tuple)) return {};
    const Py_ssize_t count = std::min<Py_ssize_t>(PyTuple_Size(tuple), 32);
    auto& numbers = integers_.emplace_back();
    for (Py_ssize_t i = 0; i < count; ++i) {
      PyObject* item = PyTuple_GetItem(tuple, i);
      if (!PyLong_CheckExact(item)) return {};  // symbolic extents: asking them for a number would fix it
      numbers.push_back(PyLong_AsLongLong(item));
    }
    clear_error();
    return numbers;
  }

  Module& module_;
  Recorder& recorder_;
  Site& site_;
  Recorder::CallBuilder& call_;
  ArgumentWriter& arguments_;
  const bool wants_values_;
  std::vector<Pending> pending_;
  Py_ssize_t items_left_ = 256;  ///< of all the call's sequences together
  std::vector<std::vector<std::int64_t>> integers_;  ///< spans point to what these hold, which stays where it is
};

struct Noted {
  Recorder* recorder = nullptr;  ///< null: nothing was noted
  std::uint64_t call = 0;
};

// Throws EnginesException only. (And the forced unwinding of a thread that ends while it waits for the GIL goes through.)
Noted note_call(Module& module, ThreadState& thread, Site& site, PyObject* positional, PyObject* keywords) {
  try {
    Recorder* recorder = module.on();
    if (recorder == nullptr) return {};
    PyObject* self = site.has_self && PyTuple_Size(positional) > 0 ? PyTuple_GetItem(positional, 0) : nullptr;
    const auto flags = static_cast<std::uint8_t>((thread.dummy_depth > 0 ? flag::dummy : 0) | (thread.call_depth > 1 ? flag::nested : 0));
    const BuilderLease lease(thread);
    auto& call = lease.get();
    recorder->begin_call(call, site.number, reinterpret_cast<std::uint64_t>(self), flags, thread.captured_graph);
    CallReader reader(module, *recorder, site, call, thread.dummy_depth == 0 && thread.captured_graph == 0 && !site.rules.empty());
    reader.read(positional, keywords);
    if (self != nullptr) reader.read_state(self);
    reader.take_values();
    return {recorder, recorder->send(call)};
  } catch (const EnginesException&) {
    throw;
  } catch (const std::exception& error) {
    PyErr_Clear();
    module.disable(error.what());
  }
  return {};
}

constexpr const char* site_capsule = "collect_workloads.site";

PyObject* call_site(PyObject* capsule, PyObject* const* arguments, Py_ssize_t count) {
  auto* site = static_cast<Site*>(PyCapsule_GetPointer(capsule, site_capsule));
  if (site == nullptr || count != 2) return nullptr;
  ThreadState& thread = this_thread;
  ++thread.call_depth;
  Noted noted;
  try {
    noted = note_call(*module_state, thread, *site, arguments[0], arguments[1]);
  } catch (const EnginesException&) {
    --thread.call_depth;
    return nullptr;
  }
  PyObject* result = PyObject_Call(site->function.get(), arguments[0], arguments[1]);
  --thread.call_depth;
  // Not in the child of a fork that the call made.
  if (result == nullptr && noted.recorder != nullptr && module_state->recorder.get() == noted.recorder) {
    try {
      noted.recorder->raised(site->number, noted.call);
    } catch (const std::exception&) {
      module_state->is_off = true;
    }
  }
  return result;
}

PyMethodDef call_site_method = {"recorded", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(call_site)), METH_FASTCALL, nullptr};

// ------------------------------------------------------------------------------------------------- what Python may call

PyObject* hook(PyObject*, PyObject* arguments) {
  PyObject* function = nullptr;
  const char* text = nullptr;
  if (PyArg_ParseTuple(arguments, "Os", &function, &text) == 0) return nullptr;
  try {
    const Json rules = Json::parse(text);
    auto site = std::make_unique<Site>();
    site->function = Ref::borrowed(function);
    Json names = Json::array();  // as recorded
    const Json renamed = rules.value("rename", Json::object());
    site->parameters = rules.at("positional").get<std::size_t>();
    const std::string role = rules.at("role").get<std::string>();
    site->has_self = role != "function";
    site->is_plan = role == "plan";
    const auto intern = [&](const std::string& name) {
      site->names.emplace_back(PyUnicode_InternFromString(name.c_str()));
    };
    for (const Json& parameter : rules.at("parameters")) {
      const auto name = parameter.get<std::string>();
      intern(name);
      names.push_back(renamed.value(name, name));
    }
    for (const Json& attribute : rules.at("state")) {
      const auto name = attribute.get<std::string>();
      if (site->state.size() == 64) break;
      site->state.emplace_back(Ref(PyUnicode_InternFromString(name.c_str())), static_cast<std::uint16_t>(names.size()));
      names.push_back("self." + name);
      intern("self." + name);
    }
    const auto index = [&](const std::string& name) {
      const auto found = std::find(names.begin(), names.end(), name);
      if (found == names.end()) {
        names.push_back(name);
        intern(name);
        return static_cast<std::uint16_t>(names.size() - 1);
      }
      return static_cast<std::uint16_t>(found - names.begin());
    };
    // What bounds others is read before what it bounds.
    for (const auto& [name, bounds] : rules.at("values").items()) {
      ContentRule rule{.name = index(name)};
      for (const Json& bound : bounds) rule.bounds.push_back(index(bound.get<std::string>()));
      site->rules.push_back(std::move(rule));
    }
    for (std::size_t i = 0, count = site->rules.size(); i < count; ++i)
      for (const std::uint16_t bound : std::vector(site->rules[i].bounds))
        if (site->rule(bound) == nullptr) site->rules.push_back({.name = bound, .is_taken = false});
    site->description = {{"function", rules.at("function")}, {"module", rules.at("module")},
                         {"signature", rules.at("signature")}, {"role", role}, {"names", std::move(names)}};
    if (rules.contains("version")) site->description["version"] = rules.at("version");
    if (module_state->recorder) site->number = module_state->recorder->add_site(site->description);
    const Ref capsule(PyCapsule_New(site.get(), site_capsule, nullptr));
    if (!capsule) return nullptr;
    PyObject* callable = PyCFunction_NewEx(&call_site_method, capsule.get(), nullptr);
    module_state->sites.push_back(std::move(site));  // for as long as the process: functions are never unhooked
    return callable;
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
    return nullptr;
  }
}

PyObject* configure(PyObject*, PyObject* arguments) {
  const char* text = nullptr;
  if (PyArg_ParseTuple(arguments, "s", &text) == 0) return nullptr;
  try {
    const Json json = Json::parse(text);
    Module& module = *module_state;
    module.options.folder = json.at("folder").get<std::string>();
    module.options.collector.budget = json.at("budget").get<std::uint64_t>();
    module.keeps_values = json.value("keeps_values", false);
    module.options.header = json.value("header", Json::object());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
    return nullptr;
  }
  Py_RETURN_NONE;
}

PyObject* set_tensors(PyObject*, PyObject* arguments) {
  PyObject *tensor = nullptr, *dtype = nullptr, *capsule = nullptr, *stream = nullptr;
  if (PyArg_ParseTuple(arguments, "OOOO", &tensor, &dtype, &capsule, &stream) == 0) return nullptr;
  Module& module = *module_state;
  Py_INCREF(tensor);
  Py_INCREF(dtype);
  module.tensor_type = reinterpret_cast<PyTypeObject*>(tensor);
  module.dtype_type = reinterpret_cast<PyTypeObject*>(dtype);
  if (capsule != Py_None) {
    const auto* api = static_cast<const ExchangeApi*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    if (api == nullptr) PyErr_Clear();
    if (api != nullptr && api->major == 1 && api->view != nullptr && api->current_stream != nullptr) module.exchange = api;
  }
  if (stream != Py_None) module.raw_stream = Ref::borrowed(stream);
  Py_RETURN_NONE;
}

// Runs what the engine asks of the recorder; nothing of it reaches the engine.
template <typename Work>
PyObject* guarded(Work work) {
  try {
    work();
  } catch (const std::exception& error) {
    module_state->disable(error.what());
  }
  Py_RETURN_NONE;
}

PyObject* begin_dummy(PyObject*, PyObject*) {
  ++this_thread.dummy_depth;
  Py_RETURN_NONE;
}

PyObject* end_dummy(PyObject*, PyObject*) {
  --this_thread.dummy_depth;
  Py_RETURN_NONE;
}

PyObject* begin_capture(PyObject*, PyObject*) {
  std::uint64_t graph = 0;
  try {
    if (Recorder* recorder = module_state->on()) graph = this_thread.captured_graph = recorder->begin_capture();
  } catch (const std::exception& error) {
    module_state->disable(error.what());
  }
  return PyLong_FromUnsignedLongLong(graph);
}

PyObject* end_capture(PyObject*, PyObject*) {
  return guarded([] {
    this_thread.captured_graph = 0;
    if (module_state->recorder) module_state->recorder->end_capture();
  });
}

PyObject* replay(PyObject*, PyObject* graph) {
  return guarded([graph] {
    const unsigned long long number = PyLong_AsUnsignedLongLong(graph);
    if (PyErr_Occurred() != nullptr) return PyErr_Clear();
    Recorder* recorder = module_state->on();
    if (recorder != nullptr && number != 0) recorder->replay(number, this_thread.dummy_depth > 0 ? flag::dummy : std::uint8_t{0});
  });
}

PyObject* batch(PyObject*, PyObject* sequences) {
  return guarded([sequences] {
    const unsigned long long count = PyLong_AsUnsignedLongLong(sequences);
    if (PyErr_Occurred() != nullptr) return PyErr_Clear();
    if (Recorder* recorder = module_state->on()) recorder->set_batch(count);
  });
}

// Gives up the GIL, and has it again whatever happens.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() { PyEval_RestoreThread(state_); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

PyObject* stop(PyObject*, PyObject*) {
  return guarded([] {
    Module& module = *module_state;
    module.is_off = true;
    if (!module.recorder || module.process != ::getpid() || std::exchange(module.is_stopped, true)) return;
    const WithoutGil without;  // the writer may need as long as the disk does
    module.recorder->stop();
  });
}

// In the child of a fork: the parent's recorder has no threads here, and its file is the parent's.
PyObject* after_fork(PyObject*, PyObject*) {
  return guarded([] {
    static_cast<void>(module_state->recorder.release());
    module_state->is_stopped = false;
    this_thread.captured_graph = 0;
  });
}

PyMethodDef methods[] = {
    {"configure", configure, METH_VARARGS, "configure(json): where to record and how much; before the first call."},
    {"set_tensors", set_tensors, METH_VARARGS, "set_tensors(Tensor, dtype, exchange_api, raw_stream): how tensors are read."},
    {"hook", hook, METH_VARARGS, "hook(function, json): a callable (args, kwargs) that records the call and makes it."},
    {"begin_dummy", begin_dummy, METH_NOARGS, "What this thread calls until end_dummy() is no traffic."},
    {"end_dummy", end_dummy, METH_NOARGS, nullptr},
    {"begin_capture", begin_capture, METH_NOARGS, "A CUDA graph is captured on this thread; its number for replay()."},
    {"end_capture", end_capture, METH_NOARGS, nullptr},
    {"replay", replay, METH_O, "replay(graph): its calls are made once more."},
    {"batch", batch, METH_O, "batch(sequences): so many of what is planned next are real, the rest is padding."},
    {"stop", stop, METH_NOARGS, "Writes what is left and ends recording in this process."},
    {"after_fork", after_fork, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_collect_workloads_recorder", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace
}  // namespace cw::recorder

PyMODINIT_FUNC PyInit__collect_workloads_recorder() {
  using namespace cw::recorder;
  if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
    PyErr_SetString(PyExc_ImportError, "only the main interpreter is recorded");
    return nullptr;
  }
  if (module_state == nullptr) {
    module_state = new Module;  // threads may use it until the process ends
    const auto intern = [](const char* text) { return Ref(PyUnicode_InternFromString(text)); };
    Module& module = *module_state;
    module.shape = intern("shape");
    module.dtype = intern("dtype");
    module.data_ptr = intern("data_ptr");
    module.device = intern("device");
    module.index = intern("index");
    module.type = intern("type");
    module.enum_value = intern("_value_");
    module.enum_name = intern("_name_");
    const Ref enums(PyImport_ImportModule("enum"));
    if (!enums) return nullptr;
    module.enum_type = reinterpret_cast<PyTypeObject*>(PyObject_GetAttrString(enums.get(), "Enum"));
    if (module.enum_type == nullptr) return nullptr;
    module.name = intern("__name__");
  }
  return PyModule_Create(&definition);
}
