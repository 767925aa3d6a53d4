// Our recorder as a capture method: it is loaded into the engine by PYTHONPATH and writes a
// recording per process, at the engine's full speed.
#pragma once

#include "capture/method.h"

namespace cw::recording {

const CaptureMethod& recorder_method();

}  // namespace cw::recording
