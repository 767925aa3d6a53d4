// Calls that go to C++ without a Python frame in between.
//
// A hook stands in for a function and must look like one: torch.compile, inspect and descriptors go
// by the type. Since CPython 3.12, PyFunction_SetVectorcall lets an object remain a Python function
// but be called as C; it and PyObject_Vectorcall are not part of the limited API of 3.10, so they
// are looked up in the running interpreter.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <dlfcn.h>

#include "python.h"

namespace cw::recorder {

struct HookedFunction;

struct DirectCalls {
  using Call = PyObject* (*)(PyObject* callable, PyObject* const* values, std::size_t flagged_count,
                             PyObject* names);

  Call call;                                   ///< PyObject_Vectorcall
  void (*set)(PyObject* function, Call call);  ///< PyFunction_SetVectorcall

  /// Those of the running interpreter; nothing before 3.12.
  static std::optional<DirectCalls> find() {
    const DirectCalls found{reinterpret_cast<Call>(::dlsym(RTLD_DEFAULT, "PyObject_Vectorcall")),
                            reinterpret_cast<void (*)(PyObject*, Call)>(
                                ::dlsym(RTLD_DEFAULT, "PyFunction_SetVectorcall"))};
    return found.call != nullptr && found.set != nullptr ? std::optional(found) : std::nullopt;
  }
};

/// The hooked functions that are entered directly, as a hash table. Looked up on every call, mostly
/// with cold caches: it touches one cache line, rarely two.
class Entries {
 public:
  void add(PyObject* function, HookedFunction* hooked) {
    if ((count_ + 1) * 4 > slots_.size()) {
      std::vector<Slot> old(std::max<std::size_t>(64, slots_.size() * 2));
      old.swap(slots_);
      for (const Slot& slot : old)
        if (slot.first != nullptr) find(slot.first) = slot;
    }
    Slot& slot = find(function);
    if (slot.first == nullptr) ++count_;
    slot = {function, hooked};
  }
  /// The entry of a function that was added.
  HookedFunction* at(PyObject* function) { return find(function).second; }

 private:
  using Slot = std::pair<PyObject*, HookedFunction*>;

  Slot& find(PyObject* function) {
    std::size_t at = reinterpret_cast<std::uintptr_t>(function) / alignof(std::max_align_t) *
                         0x9e3779b97f4a7c15u >>
                     32;
    while (true) {
      Slot& slot = slots_[at++ & (slots_.size() - 1)];
      if (slot.first == function || slot.first == nullptr) return slot;
    }
  }

  std::vector<Slot> slots_;  ///< power-of-two size, at most a quarter full
  std::size_t count_ = 0;
};

}  // namespace cw::recorder
