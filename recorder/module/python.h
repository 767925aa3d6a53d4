// CPython's limited API, and what makes it bearable in C++.
#pragma once

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <string_view>
#include <utility>

#include <Python.h>
#include <unistd.h>

namespace cw::recorder {

/// Calls into Python where bytecode may run while our objects are on the stack. Before Python 3.14,
/// a daemon thread waiting for the GIL there when the interpreter shuts down is unwound: it then
/// hangs here for good, as it would in 3.14, because what it would clean up is no longer its own to
/// touch.
template <typename Call>
auto in_python(Call call) {
  struct Stay {
    bool has_returned = false;
    ~Stay() {
      while (!has_returned) ::pause();
    }
  } stay;
  auto result = call();
  stay.has_returned = true;
  return result;
}

/// An owned reference.
class Ref {
 public:
  Ref() = default;
  explicit Ref(PyObject* object) : object_(object) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_ != nullptr)
      in_python([this] {
        Py_DECREF(object_);
        return nullptr;
      });
  }
  static Ref borrowed(PyObject* object) {
    Py_XINCREF(object);
    return Ref(object);
  }
  PyObject* get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_ = nullptr;
};

/// An exception that the engine's own code raised while a call was being recorded (say, a signal
/// handler's KeyboardInterrupt): it belongs to the engine.
struct EnginesException {};

/// Clears an error caused by recording. Throws EnginesException, with the error still set, if it
/// was not.
inline void clear_error() {
  if (PyErr_Occurred() == nullptr) return;
  if (PyErr_ExceptionMatches(PyExc_Exception) == 0) throw EnginesException();
  PyErr_Clear();
}

/// The dictionary of an object's own attributes; null if it has none. To read from it runs no
/// foreign code, and nothing is raised for an attribute that is missing.
inline Ref attributes_of(PyObject* object) {
  Ref attributes(PyObject_GenericGetDict(object, nullptr));
  if (attributes && PyDict_Check(attributes.get())) return attributes;
  clear_error();
  return {};
}

/// Borrowed; null if it is missing.
inline PyObject* attribute_of(PyObject* attributes, PyObject* name) {
  PyObject* const value = PyDict_GetItemWithError(attributes, name);
  if (value == nullptr) clear_error();
  return value;
}

/// Points into the text object; empty if it is not valid Unicode.
inline std::string_view utf8(PyObject* text) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(text, &size);
  if (data == nullptr) {
    PyErr_Clear();
    return {};
  }
  return {data, static_cast<std::size_t>(size)};
}

}  // namespace cw::recorder
