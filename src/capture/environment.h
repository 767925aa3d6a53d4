// Adding a capture's variables to a command's environment.
#pragma once

#include "base/process.h"
#include "capture/method.h"

namespace cw {

/// Adds a capture's variables to those of a command. A PYTHONPATH that the command sets itself is
/// kept after the recorder's folder, which is the first entry of `variables`' own PYTHONPATH.
void add_capture_variables(Command& command, Variables variables);

}  // namespace cw
