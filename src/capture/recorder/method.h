// Our recorder as a capture method: loaded into the engine through PYTHONPATH, it writes one
// recording per process, at the engine's full speed.
#pragma once

#include "capture/method.h"

namespace cw::recording {

const CaptureMethod& recorder_method();

}  // namespace cw::recording
