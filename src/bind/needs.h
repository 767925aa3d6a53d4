// What bindings need from a capture.
#pragma once

#include <vector>

#include "bind/binding.h"
#include "capture/method.h"

namespace cw {

/// The functions that the `selected` bindings need (if none: all that can be captured), and the
/// index values that any binding of the set needs.
CaptureNeeds needs_of(const BindingSet& bindings, const std::vector<const Binding*>& selected = {});

}  // namespace cw
