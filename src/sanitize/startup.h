// Finds the end of engine startup in a complete capture if no recorder rule has marked it.
//
// Engines warm up with dummy calls before their server is ready, and some of these look like
// traffic. Calls that cannot be traffic (Binding::sequences) show that the process is starting:
// everything it called before the last of these is not traffic, up to the first batch that can only
// be traffic, because its sequences have different lengths.
#pragma once

#include <map>

#include "bind/binding.h"
#include "capture/capture.h"

namespace cw {

/// For each process whose startup is seen, the place of the call that ends it; calls before that
/// are not traffic. The capture is fetched as far as that needs.
std::map<WrapperId, CallPlace> ends_of_startup(Capture& capture, const BindingSet& bindings);

}  // namespace cw
