// FlashInfer's own level-10 dumps as a capture method: one folder per call, with all its tensors.
//
// FLASHINFER_LOGLEVEL=10 and the variables FLASHINFER_DUMP_*: flashinfer/api_logging.py of
// 0.6.15.post1.
#pragma once

#include "capture/method.h"

namespace cw::level10 {

const CaptureMethod& dump_method();

/// fnmatch patterns that match FlashInfer's names of exactly the calls needed, sorted and unique.
std::vector<std::string> dump_patterns(const CaptureNeeds& needs);

}  // namespace cw::level10
