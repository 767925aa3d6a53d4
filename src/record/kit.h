// The recorder as a user needs it: its files on disk, and the environment that brings it into a
// process.
//
// Nothing is installed anywhere: Python finds sitecustomize.py in a folder on PYTHONPATH, and that
// finds the rest.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "bind/binding.h"

namespace cw {

struct RecordOptions {
  std::filesystem::path folder;          ///< that recordings are written into, one a process
  std::uint64_t budget = 1'000'000'000;  ///< bytes, of each process
  bool keeps_values = false;  ///< also of floats that steer a kernel: top_p, routing_logits
};

/// What the recorder hooks and keeps: data/recorder.yaml (or `rules`, its text), and the index
/// tensors that bindings name. With `only`, nothing but those functions: what is not hooked costs
/// nothing. Error code "rules_invalid".
Result<Json> recorder_config(const BindingSet& bindings, const std::string& rules,
                             const std::set<std::string>& only = {});

/// The functions that these bindings need.
std::set<std::string> functions_of(const std::vector<const Binding*>& bindings);

/// data/recorder.yaml as it was at build time.
std::string_view built_in_recorder_rules();

/// Where recorders are unpacked, each into a folder `recorder-HASH`:
/// $XDG_CACHE_HOME/collect-workloads or
/// ~/.cache/collect-workloads, ours alone; made if it is not there. Error codes: those of writing.
Result<std::filesystem::path> recorder_cache();

/// Unpacks the recorder into the user's cache ($XDG_CACHE_HOME or ~/.cache), once for each content,
/// and returns the folder. Error codes: those of writing.
Result<std::filesystem::path> unpack_recorder(const Json& config);

/// Variables for a process that is to be recorded, and that its children inherit. `kit` is what
/// unpack_recorder() returned; a PYTHONPATH that is set already stays behind it.
std::vector<std::pair<std::string, std::string>> recorder_environment(
    const std::filesystem::path& kit, const RecordOptions& options);

}  // namespace cw
