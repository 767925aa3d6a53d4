// Where an engine's start ends in a whole capture that no rule of the recorder has marked.
//
// Engines warm up with dummies before their server is ready, and not all of them are alike: some
// look as traffic does. What cannot be traffic (Binding::sequences) tells that the process is
// starting: all that it called before the last of these is no traffic, up to the first batch that
// can be nothing else, of sequences of different lengths.
#pragma once

#include <map>

#include "bind/binding.h"
#include "capture/capture.h"

namespace cw {

/// For each process that is seen to start, the position of the call that ends it; calls before it
/// are no traffic.
std::map<WrapperId, std::size_t> ends_of_startup(const Capture& capture,
                                                 const BindingSet& bindings);

}  // namespace cw
