#include "types.h"

namespace cw::recorder {

bool Types::prepare() {
  const auto intern = [](const char* text) { return Ref(PyUnicode_InternFromString(text)); };
  names.shape = intern("shape");
  names.dtype = intern("dtype");
  names.data_ptr = intern("data_ptr");
  names.device = intern("device");
  names.index = intern("index");
  names.type = intern("type");
  names.name = intern("__name__");
  names.enum_value = intern("_value_");
  names.enum_name = intern("_name_");
  const Ref enums(PyImport_ImportModule("enum"));
  if (!enums) return false;
  enumeration = reinterpret_cast<PyTypeObject*>(PyObject_GetAttrString(enums.get(), "Enum"));
  return enumeration != nullptr;
}

void* Types::stream(std::int32_t device) const {
  void* found = nullptr;
  if (exchange != nullptr) {
    if (exchange->current_stream(on_cuda, device, &found) == 0) return found;
    clear_error();
  }
  if (raw_stream) {
    const Ref handle(in_python(
        [&] { return PyObject_CallFunction(raw_stream.get(), "i", static_cast<int>(device)); }));
    if (handle) found = PyLong_AsVoidPtr(handle.get());
    clear_error();
  }
  return found;
}

}  // namespace cw::recorder
