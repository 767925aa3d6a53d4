// Encodes a call's arguments for the recorder. Holds the GIL throughout.
#pragma once

#include <optional>
#include <vector>

#include "core/recorder.h"
#include "hooked_function.h"
#include "python.h"
#include "types.h"

namespace cw::recorder {

/// What is taken of a call's tensors besides their shapes.
struct ValuesWanted {
  bool are_any = false;     ///< values of the index tensors that the function's rules name
  bool are_floats = false;  ///< also values of floats that steer a kernel
  bool are_taken = false;   ///< not only said to be left out
  /// The call is captured in a CUDA graph: each replay has values of its own.
  bool are_replayed = false;
};

/// Reads one call; every function may throw EnginesException.
class CallReader {
 public:
  CallReader(Types& types, Recorder& recorder, HookedFunction& hooked, Recorder::CallBuilder& call,
             ValuesWanted wanted)
      : types_(types),
        recorder_(recorder),
        hooked_(hooked),
        call_(call),
        arguments_(call.arguments()),
        wanted_(wanted) {}

  void positional(std::size_t index, PyObject* value);
  void keyword(PyObject* name, PyObject* value) { argument(name_of(name), value); }
  /// Attributes that plan() or forward() left on the wrapper.
  void read_state(PyObject* self) { read_attributes(self, hooked_.state); }
  /// Takes the values that are wanted. From here until the call is sent the GIL must not change
  /// hands.
  void take_values();
  /// Whether there were any that may be taken.
  bool has_values() const { return !pending_.empty(); }

 private:
  struct Pending {
    const ContentRule* rule;
    TensorView view;
    std::int32_t device_id;
    std::uint16_t tensor;
    std::int16_t content = -1;
    void* stream = nullptr;
    Ref owner;  ///< keeps the tensor alive: the caller's list may drop it meanwhile
  };

  const Pending* find(std::uint16_t name) const;
  std::optional<Recorder::Table> table_of(const ContentRule& rule) const;
  void take(Pending& item);
  void watch_values();
  std::uint16_t add_name(PyObject* text);
  std::uint16_t name_of(PyObject* key);
  std::uint16_t swallowed(std::size_t index);
  void argument(std::uint16_t name, PyObject* value);
  void plain_argument(std::uint16_t name, PyObject* value);
  void read_attributes(PyObject* object, const HookedFunction::Attributes& wanted);
  void write(PyObject* value, const ContentRule* rule, int depth);
  void text(PyObject* value);
  void integer(PyObject* value);
  void sequence(PyObject* value, const ContentRule* rule, int depth);
  std::string type_name(PyObject* value);
  void enumerator(PyObject* value);
  void other(PyObject* value);
  Ref attribute(PyObject* object, const Ref& name);
  std::string_view dtype_name(PyObject* dtype);
  void tensor(PyObject* value, const ContentRule* rule);
  void by_attributes(PyObject* value, TensorView& view, std::int32_t& device_id,
                     bool wants_strides);
  std::span<const std::int64_t> integers(PyObject* tuple);

  Types& types_;
  Recorder& recorder_;
  HookedFunction& hooked_;
  Recorder::CallBuilder& call_;
  ArgumentWriter& arguments_;
  const ValuesWanted wanted_;
  std::vector<Pending> pending_;
  std::uint16_t argument_ = 0;  ///< the parameter being read
  // Of the pages that a page table refers to.
  std::vector<std::int64_t> page_shape_;
  std::optional<bool> is_nhd_;
  Py_ssize_t items_left_ = 256;  ///< in all of the call's sequences together
  /// Backing storage of spans; elements never move.
  std::vector<std::vector<std::int64_t>> integers_;
};

}  // namespace cw::recorder
