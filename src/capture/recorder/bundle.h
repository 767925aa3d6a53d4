// The bundle: the recorder's files as loaded into an engine, and the environment that loads them.
//
// Nothing is installed: Python finds sitecustomize.py in a folder on PYTHONPATH, and that finds the
// rest.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "capture/method.h"

namespace cw::recording {

/// What the recorder hooks and keeps: `rules` (the text of data/recorder.yaml or a similar file),
/// and the index values and functions needed. What is not hooked costs nothing. Error code
/// "rules_invalid".
Result<Json> recorder_config(const CaptureNeeds& needs, const std::string& rules);

/// data/recorder.yaml as it was at build time.
std::string_view built_in_recorder_rules();

/// The text of `file`, or of the built-in rules if that is empty. Error codes: those of reading.
Result<std::string> read_recorder_rules(const std::filesystem::path& file);

/// Where bundles are unpacked, each into a folder `recorder-HASH`:
/// $XDG_CACHE_HOME/collect-workloads or
/// ~/.cache/collect-workloads, private to the user; created if missing. Error codes: those of
/// writing.
Result<std::filesystem::path> bundle_cache();

/// Unpacks the recorder into the user's cache, once per content, and returns the folder. Error
/// codes: those of writing.
Result<std::filesystem::path> unpack_bundle(const Json& config);

/// Variables for a process to be recorded into `folder`, inherited by its children. `bundle` is
/// what unpack_bundle() returned; an existing PYTHONPATH is kept after it.
Variables bundle_environment(const std::filesystem::path& bundle,
                             const std::filesystem::path& folder, const CaptureOptions& options);

}  // namespace cw::recording
