// The recorder as a Python module, for every CPython from 3.10 on (limited API).
//
// hook() returns the callable that stands in for a function: it notes the call and makes it.
// enter_directly() makes a Python function that would only call it do so directly. Any failure
// while noting disables the recorder with one line on stderr; the call is made all the same.
// Everything runs under the GIL, which serializes the engine's threads.
#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include <pthread.h>
#include <unistd.h>

#include "call_reader.h"
#include "core/descriptors.h"
#include "direct_calls.h"
#include "passed_arguments.h"

namespace cw::recorder {
namespace {

// What a thread is in the middle of. In one place, because thread-local lookups are not free in a
// shared library.
struct ThreadState {
  int call_depth = 0, dummy_depth = 0;
  std::uint64_t captured_graph = 0;
  std::vector<std::unique_ptr<Recorder::CallBuilder>> builders;
  std::size_t used_builders = 0;
};
thread_local ThreadState this_thread;

// One builder for each call being noted: reading an argument's attributes may make another call.
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

struct Module {
  RecorderOptions options;
  bool keeps_values = false;
  std::unique_ptr<Recorder> recorder;
  std::vector<std::unique_ptr<HookedFunction>> functions;
  const std::optional<DirectCalls> direct_calls = DirectCalls::find();
  Entries entries;
  bool is_off = false, is_stopped = false, is_paused = false;
  std::uint64_t recognized = 0;  ///< calls that were counted and not described
  pid_t process = 0;
  FileIdentity error_stream;  ///< what stderr was at process start; none: nothing is reported

  Types types;

  void disable(const std::string& why) {
    if (is_off) return;
    is_off = true;
    say_off(why);
  }

  void say_off(const std::string& why) const {
    write_to_stderr("collect-workloads recorder: off in process " + std::to_string(::getpid()) +
                        ": " + why + "\n",
                    error_stream);
  }

  // Started with the first call: most processes never make one, and threads do not survive a fork.
  Recorder* on() {
    if (is_off || is_paused) return nullptr;
    if (!recorder) start();
    if (recorder->is_on()) return recorder.get();
    tell_failure();
    is_off = true;
    return nullptr;
  }

  // Reports a failure of the recorder's own threads, in one line.
  void tell_failure() {
    if (const std::string why = recorder ? recorder->failure() : std::string(); !why.empty())
      disable(why);
  }

  void start() {
    process = ::getpid();
    char host[256] = "host";
    ::gethostname(host, sizeof host - 1);
    const auto now = std::chrono::duration_cast<std::chrono::nanoseconds>(
        std::chrono::system_clock::now().time_since_epoch());
    RecorderOptions started = options;
    started.name = std::string(host) + "-" + std::to_string(process) + "-" +
                   std::to_string(now.count() / 1'000'000);
    started.header["host"] = host;
    started.header["process"] = process;
    started.header["started"] = now.count();
    started.header["keeps_values"] = keeps_values;
    recorder = std::make_unique<Recorder>(std::move(started));
    // A parent's recorder counts no calls of its child. What the patterns refer to is freed last.
    std::vector<CallPatterns> of_parent;
    for (const auto& hooked : functions) {
      hooked->number = recorder->add_function(hooked->description);
      of_parent.push_back(std::exchange(hooked->patterns, {}));
    }
  }
};

Module* module_state = nullptr;

// ---- a call

struct Noted {
  Recorder* recorder = nullptr;  ///< null: nothing was noted
  std::uint64_t call = 0;
};

// Throws only EnginesException. (The forced unwinding of a thread that ends while waiting for the
// GIL also passes through.)
template <typename Arguments>
Noted note_call(Module& module, ThreadState& thread, HookedFunction& hooked,
                const Arguments& arguments) {
  try {
    Recorder* recorder = module.on();
    if (recorder == nullptr) return {};

    // Who calls, and in what.
    PyObject* self = hooked.has_self ? arguments.self() : nullptr;
    const auto flags = static_cast<std::uint8_t>((thread.dummy_depth > 0 ? flag::dummy : 0) |
                                                 (thread.call_depth > 1 ? flag::nested : 0));

    // Most calls were made before, and are only counted.
    const bool is_captured = thread.captured_graph != 0;
    const bool has_values = (thread.dummy_depth == 0 || is_captured) && !hooked.rules.empty();
    const bool takes_values = has_values && hooked.takes_values(recorder->epoch());
    const bool may_recur = module.types.layout && !is_captured && hooked.has_patterns();
    const ComparedCall<Arguments> compared{hooked, self, flags, arguments};
    CallPatterns::Found known;
    if (may_recur) {
      known = hooked.patterns.find(module.types, compared);
      const CallPattern* const pattern = known.pattern;
      const bool is_counted = pattern != nullptr && !(takes_values && pattern->has_values);
      if (is_counted && recorder->repeat(pattern->sent)) {
        if (pattern->has_values) hooked.count_values(recorder->epoch());
        ++module.recognized;
        return {recorder, pattern->sent.call};
      }
    }

    const BuilderLease lease(thread);
    auto& call = lease.get();
    recorder->begin_call(call, hooked.number, reinterpret_cast<std::uint64_t>(self), flags,
                         thread.captured_graph);

    // Its arguments.
    CallReader reader(module.types, *recorder, hooked, call,
                      {has_values, module.keeps_values, takes_values, is_captured});
    std::size_t positional = hooked.has_self ? 1 : 0;
    arguments.each(positional, [&](PyObject* name, PyObject* value) {
      if (name != nullptr)
        reader.keyword(name, value);
      else
        reader.positional(positional++, value);
      return true;
    });
    if (self != nullptr) reader.read_state(self);
    reader.take_values();
    const Recorder::Sent sent = recorder->send(call);
    if (may_recur && sent.repeats != nullptr)
      hooked.patterns.learn(module.types, compared, known, sent, reader.has_values());
    return {recorder, sent.call};
  } catch (const EnginesException&) {
    throw;
  } catch (const std::exception& error) {
    PyErr_Clear();
    module.disable(error.what());
  }
  return {};
}

template <typename Arguments>
PyObject* call_hooked(HookedFunction& hooked, const Arguments& arguments) {
  ThreadState& thread = this_thread;
  ++thread.call_depth;
  Noted noted;
  try {
    noted = note_call(*module_state, thread, hooked, arguments);
  } catch (const EnginesException&) {
    --thread.call_depth;
    return nullptr;
  }
  const Ref replacement = hooked.owner ? hooked.replacement() : Ref();
  PyObject* result = arguments.call(module_state->direct_calls,
                                    replacement ? replacement.get() : hooked.function.get());
  --thread.call_depth;

  // Not in the child of a fork that the call made.
  if (result == nullptr && noted.recorder != nullptr &&
      module_state->recorder.get() == noted.recorder) {
    try {
      noted.recorder->raised(hooked.number, noted.call);
    } catch (const std::exception&) {
      module_state->is_off = true;
    }
  }
  return result;
}

// The two ways into a hooked function: through what hook() returned, and through a function given
// to enter_directly().

constexpr const char* function_capsule = "collect_workloads.site";

PyObject* call_packed(PyObject* capsule, PyObject* const* arguments, Py_ssize_t count) {
  auto* hooked = static_cast<HookedFunction*>(PyCapsule_GetPointer(capsule, function_capsule));
  if (hooked == nullptr || count != 2) return nullptr;
  return call_hooked(*hooked, PackedArguments(arguments[0], arguments[1]));
}

PyMethodDef call_packed_method = {
    "recorded", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(call_packed)), METH_FASTCALL,
    nullptr};

PyObject* call_directly(PyObject* function, PyObject* const* values, std::size_t flagged_count,
                        PyObject* names) {
  return call_hooked(*module_state->entries.at(function),
                     PassedArguments(values, flagged_count, names));
}

// ---- what Python may call

// Builds a hooked function from the rules that the Python side gives for it.
class HookBuilder {
 public:
  explicit HookBuilder(const Json& rules) : rules_(rules) {}

  std::unique_ptr<HookedFunction> build() {
    const std::string role = rules_.at("role").get<std::string>();
    hooked_->parameters = rules_.at("positional").get<std::size_t>();
    hooked_->has_self = role != "function";
    hooked_->is_plan = role == "plan";
    add_names();
    add_objects();
    add_content_rules();

    // Its description for the recorder.
    hooked_->description = {{"function", rules_.at("function")},
                            {"module", rules_.at("module")},
                            {"signature", rules_.at("signature")},
                            {"role", role},
                            {"names", std::move(names_)}};
    if (rules_.contains("version")) hooked_->description["version"] = rules_.at("version");
    return std::move(hooked_);
  }

 private:
  static constexpr std::size_t max_state = 64;

  void add(const std::string& recorded, const std::string& name) {
    names_.push_back(recorded);
    hooked_->names.emplace_back(PyUnicode_InternFromString(name.c_str()));
  }

  // Its parameters, and what is read from the wrapper, under the names that are recorded.
  void add_names() {
    const Json renamed = rules_.value("rename", Json::object());
    for (const Json& parameter : rules_.at("parameters")) {
      const auto name = parameter.get<std::string>();
      add(renamed.value(name, name), name);
    }
    for (const Json& attribute : rules_.at("state")) {
      const auto name = attribute.get<std::string>();
      if (hooked_->state.size() == max_state) break;
      hooked_->state.emplace_back(Ref(PyUnicode_InternFromString(name.c_str())),
                                  static_cast<std::uint16_t>(names_.size()));
      add("self." + name, "self." + name);
    }
  }

  std::uint16_t index_of(const std::string& name) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    const auto index = static_cast<std::uint16_t>(found - names_.begin());
    if (found == names_.end()) add(name, name);
    return index;
  }

  // Arguments that hold others.
  void add_objects() {
    const Json objects = rules_.value("objects", Json::object());
    for (const auto& [parameter, attributes] : objects.items()) {
      auto& [index, fields] = hooked_->objects.emplace_back();
      index = index_of(parameter);
      for (const Json& attribute : attributes) {
        const auto name = attribute.get<std::string>();
        fields.emplace_back(Ref(PyUnicode_InternFromString(name.c_str())), index_of(name));
      }
    }
  }

  ContentRule::Table table_rule(const Json& how) {
    ContentRule::Table table{.lengths = index_of(how.at("lengths").get<std::string>()),
                             .pages = index_of(how.at("pages").get<std::string>())};
    if (how.contains("layout")) table.layout = index_of(how["layout"].get<std::string>());
    table.is_nhd = how.value("default_layout", "") == "NHD";
    return table;
  }

  // The tensors whose values are taken. A bound is read before what it bounds.
  void add_content_rules() {
    for (const auto& [name, how] : rules_.at("values").items()) {
      ContentRule rule{.name = index_of(name)};
      if (how.is_object())
        rule.table = table_rule(how);
      else
        for (const Json& bound : how) rule.bounds.push_back(index_of(bound.get<std::string>()));
      hooked_->rules.push_back(std::move(rule));
    }
    for (std::size_t i = 0, count = hooked_->rules.size(); i < count; ++i)
      for (const std::uint16_t bound : std::vector(hooked_->rules[i].bounds))
        if (hooked_->rule(bound) == nullptr)
          hooked_->rules.push_back({.name = bound, .is_taken = false});
  }

  const Json& rules_;
  std::unique_ptr<HookedFunction> hooked_ = std::make_unique<HookedFunction>();
  Json names_ = Json::array();  // as recorded
};

PyObject* hook(PyObject*, PyObject* arguments) {
  PyObject *function = nullptr, *owner = nullptr, *owners_name = nullptr;
  const char* text = nullptr;
  if (PyArg_ParseTuple(arguments, "Os|O!U", &function, &text, &PyDict_Type, &owner, &owners_name) ==
      0)
    return nullptr;
  try {
    const Json rules = Json::parse(text);
    std::unique_ptr<HookedFunction> hooked = HookBuilder(rules).build();

    // The function, and where to look it up at each call if others may replace it.
    hooked->function = Ref::borrowed(function);
    if (owners_name != nullptr) {
      hooked->owner = Ref::borrowed(owner);
      hooked->owners_name = Ref::borrowed(owners_name);
    }
    if (module_state->recorder)
      hooked->number = module_state->recorder->add_function(hooked->description);

    const Ref capsule(PyCapsule_New(hooked.get(), function_capsule, nullptr));
    if (!capsule) return nullptr;
    PyObject* callable = PyCFunction_NewEx(&call_packed_method, capsule.get(), nullptr);

    // Lives as long as the process: functions are never unhooked.
    module_state->functions.push_back(std::move(hooked));
    return callable;
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
    return nullptr;
  }
}

PyObject* enter_directly(PyObject*, PyObject* arguments) {
  PyObject *function = nullptr, *call = nullptr;
  if (PyArg_ParseTuple(arguments, "OO", &function, &call) == 0) return nullptr;
  PyObject* capsule = PyCFunction_GetSelf(call);
  auto* hooked = capsule != nullptr
                     ? static_cast<HookedFunction*>(PyCapsule_GetPointer(capsule, function_capsule))
                     : nullptr;
  if (hooked == nullptr) return nullptr;
  Py_INCREF(function);
  hooked->stand_in = function;
  if (!module_state->direct_calls) Py_RETURN_FALSE;
  try {
    module_state->entries.add(function, hooked);
  } catch (const std::exception&) {
    return PyErr_NoMemory();
  }
  module_state->direct_calls->set(function, call_directly);
  Py_RETURN_TRUE;
}

// Otherwise sets an exception: all state exists only once, and belongs to the main interpreter.
bool is_main_interpreter() {
  if (PyInterpreterState_GetID(PyInterpreterState_Get()) == 0) return true;
  PyErr_SetString(PyExc_ImportError, "only the main interpreter is recorded");
  return false;
}

PyObject* configure(PyObject*, PyObject* arguments) {
  const char *folder = nullptr, *text = nullptr;
  if (PyArg_ParseTuple(arguments, "ys", &folder, &text) == 0) return nullptr;

  // The module's initialization is not rerun for an interpreter that shares it.
  if (!is_main_interpreter()) return nullptr;
  try {
    const Json json = Json::parse(text);
    Module& module = *module_state;
    if (!can_leave_shared_descriptors()) {
      PyErr_SetString(PyExc_OSError, "this system gives a thread no file descriptors of its own");
      return nullptr;
    }
    if (json.contains("stderr"))
      module.error_stream = {json["stderr"].at(0).get<std::uint64_t>(),
                             json["stderr"].at(1).get<std::uint64_t>()};
    static std::once_flag watched;
    std::call_once(watched, [] {
      ::pthread_atfork(nullptr, nullptr, [] {
        if (module_state->recorder) module_state->recorder->forget_counts();
      });
    });
    module.options.folder = folder;
    module.options.aggregator.budget = json.at("budget").get<std::uint64_t>();
    module.options.counts = json.value("counts", "");
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
  std::array<TensorLayout::Sample, 4> samples{};
  auto& [a, b, c, d] = samples;
  if (PyArg_ParseTuple(arguments, "OOOO|((OK)(OK)(OK)(OK))", &tensor, &dtype, &capsule, &stream,
                       &a.tensor, &a.keys, &b.tensor, &b.keys, &c.tensor, &c.keys, &d.tensor,
                       &d.keys) == 0)
    return nullptr;
  Module& module = *module_state;
  Py_INCREF(tensor);
  Py_INCREF(dtype);
  module.types.tensor = reinterpret_cast<PyTypeObject*>(tensor);
  module.types.dtype = reinterpret_cast<PyTypeObject*>(dtype);
  if (capsule != Py_None) {
    const auto* api =
        static_cast<const ExchangeApi*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    if (api == nullptr) PyErr_Clear();
    if (api != nullptr && api->major == 1 && api->view != nullptr && api->current_stream != nullptr)
      module.types.exchange = api;
  }
  if (stream != Py_None) module.types.raw_stream = Ref::borrowed(stream);
  try {
    if (module.types.exchange != nullptr && a.tensor != nullptr)
      module.types.layout = TensorLayout::find(*module.types.exchange, samples);
  } catch (const EnginesException&) {
    return nullptr;
  }
  return PyBool_FromLong(module.types.layout.has_value() ? 1 : 0);
}

// Runs what the engine asks of the recorder; no failure but the engine's own reaches the engine.
template <typename Work>
PyObject* guarded(Work work) {
  try {
    work();
  } catch (const EnginesException&) {
    return nullptr;
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
    if (Recorder* recorder = module_state->on())
      graph = this_thread.captured_graph = recorder->begin_capture();
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

// Tells the recorder something of a graph, by its number; 0 is none.
template <typename Tell>
PyObject* with_graph(PyObject* graph, Tell tell) {
  return guarded([graph, &tell] {
    const unsigned long long number = PyLong_AsUnsignedLongLong(graph);
    if (PyErr_Occurred() != nullptr) return PyErr_Clear();
    if (Recorder* recorder = module_state->on(); recorder != nullptr && number != 0)
      tell(*recorder, number);
  });
}

PyObject* replay(PyObject*, PyObject* graph) {
  return with_graph(graph, [](Recorder& recorder, std::uint64_t number) {
    const auto device = recorder.device_of(number);
    recorder.replay(number, this_thread.dummy_depth > 0 ? flag::dummy : std::uint8_t{0},
                    device ? module_state->types.stream(*device) : nullptr);
  });
}

PyObject* expose(PyObject*, PyObject* graph) {
  return with_graph(graph,
                    [](Recorder& recorder, std::uint64_t number) { recorder.expose(number); });
}

PyObject* forget_graph(PyObject*, PyObject* graph) {
  return with_graph(
      graph, [](Recorder& recorder, std::uint64_t number) { recorder.forget_graph(number); });
}

PyObject* has_inputs(PyObject*, PyObject* graph) {
  const unsigned long long number = PyLong_AsUnsignedLongLong(graph);
  if (PyErr_Occurred() != nullptr) return nullptr;
  const Recorder* recorder = module_state->recorder.get();
  return PyBool_FromLong(recorder != nullptr && recorder->device_of(number) ? 1 : 0);
}

PyObject* forget_memory(PyObject*, PyObject* arguments) {
  unsigned long long graph = 0, begin = 0, size = 0;
  if (PyArg_ParseTuple(arguments, "KKK", &graph, &begin, &size) == 0) return nullptr;
  if (module_state->recorder) module_state->recorder->forget_memory(graph, begin, size);
  Py_RETURN_NONE;
}

PyObject* batch(PyObject*, PyObject* sequences) {
  return guarded([sequences] {
    const unsigned long long count = PyLong_AsUnsignedLongLong(sequences);
    if (PyErr_Occurred() != nullptr) return PyErr_Clear();
    if (Recorder* recorder = module_state->on()) recorder->set_batch(count);
  });
}

// Releases the GIL, and takes it back whatever happens.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() { PyEval_RestoreThread(state_); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

PyObject* set_paused(PyObject*, PyObject* is_paused) {
  const int truth = PyObject_IsTrue(is_paused);
  if (truth < 0) return nullptr;
  module_state->is_paused = truth != 0;
  Py_RETURN_NONE;
}

PyObject* recognized(PyObject*, PyObject*) {
  return PyLong_FromUnsignedLongLong(module_state->recognized);
}

PyObject* stop(PyObject*, PyObject*) {
  return guarded([] {
    Module& module = *module_state;
    const bool was_off = std::exchange(module.is_off, true);
    if (!module.recorder || module.process != ::getpid() || std::exchange(module.is_stopped, true))
      return;
    {
      const WithoutGil without;  // the writer may take as long as the disk does
      module.recorder->stop();
    }
    if (const std::string why = module.recorder->failure(); !was_off && !why.empty())
      module.say_off(why);
  });
}

// In the child of a fork: the parent's recorder has no threads here, and its file is the parent's.
// (After a fork in C, without Python, only the lent memory must no longer be written to: see
// configure().)
PyObject* after_fork(PyObject*, PyObject*) {
  return guarded([] {
    static_cast<void>(module_state->recorder.release());
    module_state->is_stopped = false;
    this_thread.captured_graph = 0;
  });
}

PyMethodDef methods[] = {
    {"configure", configure, METH_VARARGS,
     "configure(folder, json): where to record, as bytes, and how much; before the first call."},
    {"set_tensors", set_tensors, METH_VARARGS,
     "set_tensors(Tensor, dtype, exchange_api, raw_stream[, samples]): how tensors are read. With "
     "the samples of\n"
     "TensorLayout::find, calls that recur are recognized; whether that works with this torch."},
    {"hook", hook, METH_VARARGS,
     "hook(function, json[, names, name]): a callable (args, kwargs) that records the call and "
     "makes it; with `names`, a dict,\n"
     "to what `name` is there at that time."},
    {"enter_directly", enter_directly, METH_VARARGS,
     "enter_directly(function, callable): calls of this Python function go to hook()'s callable "
     "without running its body; False\n"
     "where this Python has no way to do so (before 3.12)."},
    {"begin_dummy", begin_dummy, METH_NOARGS,
     "What this thread calls until end_dummy() is no traffic."},
    {"end_dummy", end_dummy, METH_NOARGS, nullptr},
    {"begin_capture", begin_capture, METH_NOARGS,
     "A CUDA graph is captured on this thread; its number for replay()."},
    {"end_capture", end_capture, METH_NOARGS, nullptr},
    {"replay", replay, METH_O, "replay(graph): its calls are about to be made once more."},
    {"expose", expose, METH_O, "expose(graph): the engine may launch it without replay()."},
    {"forget_graph", forget_graph, METH_O, "forget_graph(graph): it is gone."},
    {"has_inputs", has_inputs, METH_O,
     "has_inputs(graph): whether its calls have index tensors that are read before replays."},
    {"forget_memory", forget_memory, METH_VARARGS,
     "forget_memory(graph, address, size): this is the graph's own, and holds nothing before a "
     "replay."},
    {"batch", batch, METH_O,
     "batch(sequences): so many of what is planned next are real, the rest is padding."},
    {"pause", set_paused, METH_O,
     "pause(bool): while it is true, calls are passed on and not noted, a plan neither: to measure "
     "what noting costs."},
    {"recognized", recognized, METH_NOARGS,
     "How many calls were seen to be ones made before, and only counted: what noting the others "
     "costs is several times that."},
    {"stop", stop, METH_NOARGS, "Writes what is left and ends recording in this process."},
    {"after_fork", after_fork, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "_collect_workloads_recorder",
                          nullptr,
                          -1,
                          methods,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace
}  // namespace cw::recorder

PyMODINIT_FUNC PyInit__collect_workloads_recorder() {
  using namespace cw::recorder;
  if (!is_main_interpreter()) return nullptr;
  if (module_state == nullptr) {
    auto module = std::make_unique<Module>();
    if (!module->types.prepare()) return nullptr;
    module_state = module.release();  // threads may use it until the process ends
  }
  return PyModule_Create(&definition);
}
