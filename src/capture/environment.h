// A capture's variables in the environment of a command.
#pragma once

#include "base/process.h"
#include "capture/method.h"

namespace cw {

/// Adds a capture's variables to those of a command. A PYTHONPATH that the command sets itself
/// stays behind the recorder's folder, which is the first one of the variables' own.
void add_capture_variables(Command& command, Variables variables);

}  // namespace cw
