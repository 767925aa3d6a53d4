// Capture methods: how an engine is made to leave its calls behind, and how those are read.
//
// A method is an object, registered once (methods.cpp). Nothing outside this interface knows which
// methods exist.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "capture/capture.h"

namespace cw {

using Variables = std::vector<std::pair<std::string, std::string>>;  ///< of an environment

/// What has to be captured for the definitions. Functions are "Class.method" or "function".
struct CaptureNeeds {
  std::set<std::string> calls;            ///< that give workloads; empty: all the method knows
  std::set<std::string> plans, inits;     ///< of their wrappers
  std::set<std::string> neighbours;       ///< whose presence decides whether a call counts
  std::set<std::string> neighbour_plans;  ///< of the neighbours' wrappers
  /// {function: {parameter: [bounds]}}: index tensors whose values are needed, and the parameters
  /// whose last element says how many of them are in use.
  Json index_values = Json::object();

  /// Calls, plans, constructors and neighbours.
  std::set<std::string> functions() const;
};

/// User options; each method uses its own.
struct CaptureOptions {
  std::uint64_t record_budget = 1'000'000'000;  ///< maximum bytes of a process's recording
  bool keeps_values = false;                    ///< also of floats that steer kernels
  std::filesystem::path recorder_rules;         ///< instead of the built-in ones
  std::vector<std::string> include, exclude;    ///< patterns of functions to dump, and not to
  std::optional<std::uint64_t> max_count, max_size_gb;  ///< FlashInfer's limits
};

/// How far a capture got into the processes of a command, where that is known.
struct Reach {
  std::uint32_t processes = 0;    ///< Python processes that load what captures their calls
  std::uint32_t flashinfers = 0;  ///< those of them that imported FlashInfer
  std::string flashinfer_version;
};

/// A capture that an engine is still making.
class LiveCapture {
 public:
  virtual ~LiveCapture() = default;
  virtual Capture& capture() = 0;
  /// Finds what was completed since the last time, for the capture to fetch; one that has to look
  /// at every call does so until `deadline`. Returns whether that was all.
  virtual Result<bool> poll(Deadline deadline) = 0;
  /// The writers have exited: takes everything that is left.
  virtual Result<void> finish() = 0;
  /// Calls that have begun and are not complete.
  virtual std::size_t pending() const { return 0; }
  /// From now on nothing is deleted.
  virtual void keep_the_rest() {}
  /// Disk usage in bytes, as of the last poll(): a running total.
  virtual std::uint64_t disk() const = 0;
  /// Disk usage in bytes of other files there that belong to no call; walks the folder.
  virtual std::uint64_t foreign_disk() const { return 0; }
};

class CaptureMethod {
 public:
  virtual ~CaptureMethod() = default;
  /// As used in options and collection.json.
  virtual std::string_view name() const = 0;
  /// What it produces, for people: "recordings".
  virtual std::string_view product() const = 0;

  // Making a capture.

  /// Variables of a process whose calls, and those of its children, are to be captured into
  /// `folder`. Error codes: "rules_invalid", "cache_unusable", and those of reading and writing.
  virtual Result<Variables> environment(const std::filesystem::path& folder,
                                        const CaptureNeeds& needs,
                                        const CaptureOptions& options) const = 0;
  /// The default folder name.
  virtual std::string_view usual_folder() const = 0;
  /// One line about it, as shown in a plan.
  virtual std::string summary(const CaptureNeeds& needs, const CaptureOptions& options) const = 0;
  /// How it was set up, for the record; an object.
  virtual Json provenance(const CaptureNeeds& /*needs*/, const CaptureOptions& /*options*/) const {
    return Json::object();
  }
  /// The rules by which it finds the functions of an engine (data/recorder.yaml or a file like it);
  /// empty: it needs none. Error codes: those of reading.
  virtual Result<std::string> rules(const CaptureOptions& /*options*/) const {
    return std::string();
  }
  /// Why nothing was captured although an engine ran, and what to do about it; empty if there is
  /// nothing to say. `reach` is null if it is not known.
  virtual std::string why_nothing(const std::optional<Reach>& /*reach*/) const { return {}; }

  // Reading one.

  /// Whether `path` holds one of this method's captures.
  virtual bool recognizes(const std::filesystem::path& path) const = 0;
  /// Error codes: "not_found", "unreadable", "no_dumps" or "no_recordings".
  virtual Result<std::unique_ptr<Capture>> open(
      const std::vector<std::filesystem::path>& roots) const = 0;
  /// Follows the capture in an existing folder. Disposal::remove deletes what was processed, if
  /// that is how this method limits its disk usage. Error codes: "not_found", "unreadable".
  virtual Result<std::unique_ptr<LiveCapture>> follow(const std::filesystem::path& folder,
                                                      Disposal disposal) const = 0;

  /// Whether it limits its own size; otherwise the caller has to keep the disk from filling up.
  virtual bool is_bounded() const = 0;
  /// Whether all of it still exists at the end and can be read again.
  virtual bool is_lasting() const = 0;
};

/// All of them; the first is the default.
std::span<const CaptureMethod* const> capture_methods();
/// Null if there is none of that name.
const CaptureMethod* find_capture_method(std::string_view name);
/// The method of the capture at `path`; level10 if none recognizes it.
const CaptureMethod& capture_method_of(const std::filesystem::path& path);

/// Opens a capture by its location. Error codes: "not_found", "mixed_captures", and those of
/// CaptureMethod::open.
Result<std::unique_ptr<Capture>> open_capture(const std::vector<std::filesystem::path>& roots);

}  // namespace cw
