// The bundle: the recorder's files as they are put into an engine, and the environment that does
// it.
//
// Nothing is installed anywhere: Python finds sitecustomize.py in a folder on PYTHONPATH, and that
// finds the rest.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "capture/method.h"

namespace cw::recording {

/// What the recorder hooks and keeps: `rules` (the text of data/recorder.yaml or of a file like
/// it), and the index values and functions that are needed. What is not hooked costs nothing. Error
/// code "rules_invalid".
Result<Json> recorder_config(const CaptureNeeds& needs, const std::string& rules);

/// data/recorder.yaml as it was at build time.
std::string_view built_in_recorder_rules();

/// Where bundles are unpacked, each into a folder `recorder-HASH`:
/// $XDG_CACHE_HOME/collect-workloads or
/// ~/.cache/collect-workloads, private to the user; made if it is not there. Error codes: those of
/// writing.
Result<std::filesystem::path> bundle_cache();

/// Unpacks the recorder into the user's cache, once for each content, and returns the folder. Error
/// codes: those of writing.
Result<std::filesystem::path> unpack_bundle(const Json& config);

/// Variables for a process that is to be recorded into `folder`, and that its children inherit.
/// `bundle` is what unpack_bundle() returned; a PYTHONPATH that is set already stays behind it.
Variables bundle_environment(const std::filesystem::path& bundle,
                             const std::filesystem::path& folder, const CaptureOptions& options);

/// Why a recorded program may have left nothing.
inline constexpr std::string_view nothing_recorded =
    "nothing was recorded: no process called FlashInfer or another function that is hooked (in a "
    "Python of 3.10 or newer, not started with -I or -S, nor by a script that sets PYTHONPATH anew "
    "or empties the environment), or else a line of the recorder's says why it was off";

}  // namespace cw::recording
