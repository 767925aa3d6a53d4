// Capture methods: how an engine is made to leave its calls behind, and how those are read.
//
// A method is an object, registered once (methods.cpp). Past this interface nothing knows which
// methods there are.
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

/// What has to be captured, as far as definitions tell. Functions are "Class.method" or "function".
struct CaptureNeeds {
  std::set<std::string> calls;            ///< that give workloads; empty: all that a method knows
  std::set<std::string> plans, inits;     ///< of their wrappers
  std::set<std::string> neighbours;       ///< whose presence beside a call decides about it
  std::set<std::string> neighbour_plans;  ///< of the neighbours' wrappers
  /// {function: {parameter: [bounds]}}: index tensors whose values are needed, and the parameters
  /// whose last element says how many of them are in use.
  Json index_values = Json::object();

  /// Calls, plans, constructors and neighbours.
  std::set<std::string> functions() const;
};

/// What users may set; each method takes what is its own.
struct CaptureOptions {
  std::uint64_t record_budget = 1'000'000'000;  ///< bytes of a process's recording
  bool keeps_values = false;                    ///< also of floats that steer kernels
  std::filesystem::path recorder_rules;         ///< instead of the built-in ones
  std::vector<std::string> include, exclude;    ///< patterns of functions to dump, and not to
  std::optional<std::uint64_t> max_count, max_size_gb;  ///< FlashInfer's limits
};

/// A capture that an engine is still making.
class LiveCapture {
 public:
  virtual ~LiveCapture() = default;
  virtual const Capture& capture() const = 0;
  /// Takes what has been completed since the last time, until `deadline`. Whether that was all.
  virtual Result<bool> poll(Deadline deadline) = 0;
  /// The writers have ended: takes all that is left.
  virtual Result<void> finish() = 0;
  /// Calls that have begun and are not complete.
  virtual std::size_t pending() const { return 0; }
  /// From now on nothing is deleted.
  virtual void keep_the_rest() {}
  /// Bytes on the disk, as far as poll() has come: a running total.
  virtual std::uint64_t disk() const = 0;
  /// Bytes of files beside it that belong to no call; walks the folder.
  virtual std::uint64_t foreign_disk() const { return 0; }
};

class CaptureMethod {
 public:
  virtual ~CaptureMethod() = default;
  /// As options and collection.json have it.
  virtual std::string_view name() const = 0;
  /// What it leaves, for people: "recordings".
  virtual std::string_view product() const = 0;

  // Making a capture.

  /// Variables of a process whose calls, and those of its children, are to be captured into
  /// `folder`. Error codes: "rules_invalid", "cache_unusable", and those of reading and writing.
  virtual Result<Variables> environment(const std::filesystem::path& folder,
                                        const CaptureNeeds& needs,
                                        const CaptureOptions& options) const = 0;
  /// A folder's name where the user gives none.
  virtual std::string_view usual_folder() const = 0;
  /// What a plan shows of it, in a line.
  virtual std::string summary(const CaptureNeeds& needs, const CaptureOptions& options) const = 0;
  /// What to remember of how it was set up; an object.
  virtual Json provenance(const CaptureNeeds& /*needs*/, const CaptureOptions& /*options*/) const {
    return Json::object();
  }
  /// Why there may be nothing although an engine ran; empty when there is nothing to say.
  virtual std::string_view why_nothing() const { return {}; }

  // Reading one.

  /// Whether what lies at `path` is one of this method's.
  virtual bool recognizes(const std::filesystem::path& path) const = 0;
  /// Error codes: "not_found", "unreadable", "no_dumps" or "no_recordings".
  virtual Result<std::unique_ptr<Capture>> open(
      const std::vector<std::filesystem::path>& roots) const = 0;
  /// Follows the capture of a folder that is there. Disposal::remove deletes what was dealt
  /// with, if that is how this method keeps within a disk. Error codes: "not_found", "unreadable".
  virtual Result<std::unique_ptr<LiveCapture>> follow(const std::filesystem::path& folder,
                                                      Disposal disposal) const = 0;

  /// It stays within a bound of its own; else whoever collects has to keep the disk from filling
  /// up.
  virtual bool is_bounded() const = 0;
  /// All of it is still there in the end and can be read again.
  virtual bool is_lasting() const = 0;
};

/// All of them; the first is the one that is used unless something speaks against it.
std::span<const CaptureMethod* const> capture_methods();
/// Null when there is none of that name.
const CaptureMethod* find_capture_method(std::string_view name);
/// The method of what lies at `path`; the last of all where nothing tells.
const CaptureMethod& capture_method_of(const std::filesystem::path& path);

/// Opens a capture by where it lies. Error codes: "not_found", "mixed_captures", and those of
/// CaptureMethod::open.
Result<std::unique_ptr<Capture>> open_capture(const std::vector<std::filesystem::path>& roots);

}  // namespace cw
