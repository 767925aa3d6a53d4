// FlashInfer's own dumps at level 10 as a capture method: every call a folder, with all its
// tensors.
//
// FLASHINFER_LOGLEVEL=10 and the variables FLASHINFER_DUMP_*: flashinfer/api_logging.py of
// 0.6.15.post1.
#pragma once

#include "capture/method.h"

namespace cw::level10 {

const CaptureMethod& dump_method();

/// fnmatch patterns over FlashInfer's names of just the calls that are needed, sorted and unique.
std::vector<std::string> dump_patterns(const CaptureNeeds& needs);

}  // namespace cw::level10
