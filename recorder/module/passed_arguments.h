// The arguments of a call in the two forms in which they arrive. Both borrow everything.
#pragma once

#include <cstddef>
#include <optional>

#include "direct_calls.h"
#include "python.h"

namespace cw::recorder {

/// As the Python stand-in has them: a tuple and a dictionary.
class PackedArguments {
 public:
  PackedArguments(PyObject* positional, PyObject* keywords)
      : positional_(positional), keywords_(keywords) {}
  PyObject* self() const {
    return PyTuple_Size(positional_) > 0 ? PyTuple_GetItem(positional_, 0) : nullptr;
  }
  /// Shows `visit` the arguments from number `first` on, each with its keyword or null, for as long
  /// as it returns true; whether it always did.
  template <typename Visit>
  bool each(std::size_t first, Visit visit) const {
    const auto count = static_cast<std::size_t>(PyTuple_Size(positional_));
    for (std::size_t i = first; i < count; ++i)
      if (!visit(nullptr, PyTuple_GetItem(positional_, static_cast<Py_ssize_t>(i)))) return false;
    PyObject *name = nullptr, *value = nullptr;
    for (Py_ssize_t at = 0; PyDict_Next(keywords_, &at, &name, &value) != 0;)
      if (!visit(name, value)) return false;
    return true;
  }
  PyObject* call(const std::optional<DirectCalls>&, PyObject* function) const {
    return PyObject_Call(function, positional_, keywords_);
  }

 private:
  PyObject *positional_, *keywords_;
};

/// The same as the interpreter itself passes them (PEP 590): the values in an array, the keyword
/// names in a tuple.
class PassedArguments {
 public:
  PassedArguments(PyObject* const* values, std::size_t flagged_count, PyObject* names)
      : values_(values), flagged_count_(flagged_count), names_(names) {}
  PyObject* self() const { return count() > 0 ? values_[0] : nullptr; }
  template <typename Visit>
  bool each(std::size_t first, Visit visit) const {
    for (std::size_t i = first; i < count(); ++i)
      if (!visit(nullptr, values_[i])) return false;
    const Py_ssize_t keywords = names_ != nullptr ? PyTuple_Size(names_) : 0;
    for (Py_ssize_t i = 0; i < keywords; ++i)
      if (!visit(PyTuple_GetItem(names_, i), values_[count() + static_cast<std::size_t>(i)]))
        return false;
    return true;
  }
  PyObject* call(const std::optional<DirectCalls>& calls, PyObject* function) const {
    return calls->call(function, values_, flagged_count_, names_);
  }

 private:
  // The highest bit says that the callee may use the slot before the values
  // (PY_VECTORCALL_ARGUMENTS_OFFSET).
  std::size_t count() const { return flagged_count_ & (~std::size_t{0} >> 1); }

  PyObject* const* values_;
  std::size_t flagged_count_;
  PyObject* names_;
};

}  // namespace cw::recorder
