// The main job: turns a capture into workloads of a dataset.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "capture/capture.h"
#include "dataset/collection_records.h"
#include "dataset/dataset.h"
#include "sanitize/checkpoint.h"

namespace cw {

enum class Selection { all, diverse };

struct SanitizeOptions {
  StoragePolicy policy;
  Selection selection = Selection::diverse;
  std::size_t num_samples = 64;  ///< maximum workloads per definition (Selection::diverse)
  std::vector<std::string> definition_names;  ///< empty: all
  std::vector<std::string> op_types;          ///< empty: all
  bool includes_suspicious = false;           ///< also calls that do not look like traffic
  bool is_dry_run = false;                    ///< writes nothing
  std::optional<RunRecord> run;               ///< how the capture was made, if known
  std::function<void(std::size_t calls_done)> progress = [](std::size_t) {};
  std::chrono::steady_clock::duration slowness{};  ///< for tests: extra time per call
};

/// A workload that the capture gave and the selection kept.
struct KeptWorkload {
  std::string id;          ///< in the dataset
  std::uint64_t seen = 0;  ///< calls with exactly this content: layers times steps
  /// Calls that it represents; over all kept ones they add up to the definition's.
  std::uint64_t stands_for = 0;
  bool is_new = false;  ///< not in the dataset before
  bool is_capture_warmup = false;
  WorkloadNotes notes;
};

struct DefinitionOutcome {
  const Definition* definition = nullptr;  ///< of the dataset given to sanitize()
  /// Why there are no calls, or what a user waiting for calls should know; may be empty.
  std::string status;
  /// Where the defaults of derived values are documented.
  std::map<std::string, std::string> cites;
  std::uint64_t calls = 0;
  /// Of these: without a workload, by reason; "values_sampled_out" is normal.
  std::map<std::string, std::uint64_t> unseen;
  std::size_t distinct = 0;
  Distribution distribution;  ///< of all calls
  std::uint64_t padded = 0;   ///< calls with batches padded with dummy sequences
  std::map<std::string, std::uint64_t> derived;
  std::vector<KeptWorkload> kept;
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;  ///< observed, per var axis

  /// No binding knows its op type, its tag or its inputs; `status` says so.
  bool lacks_binding = false;
  /// Whether the user requested this definition, rather than all.
  bool is_asked_for = false;

  std::size_t added() const;
};

struct SanitizeOutcome {
  std::vector<DefinitionOutcome> definitions;  ///< the requested ones, by name
  Survey survey;              ///< without counts by target, which are in `definitions`
  std::size_t recovered = 0;  ///< blobs of an interrupted run that were rolled back
};

/// A definition's progress while a capture grows.
struct Progress {
  const Definition* definition = nullptr;
  std::uint64_t calls = 0;
  std::uint64_t calls_since_new = 0;  ///< since one last hit a new octave of var axes
  std::size_t distinct = 0;
  std::size_t cells = 0;  ///< octaves of the var axes that were seen
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;  ///< of each var axis
};

/// Sanitizes a growing capture: call advance() whenever there is something new, and finish(), which
/// selects and writes, once. All references must outlive it.
class Sanitizer {
 public:
  enum class Source {
    lasting,    ///< calls can be read again at the end
    vanishing,  ///< calls are deleted meanwhile: candidates are kept in memory
  };
  /// Error codes: "definition_unknown" (with names like it), "input_unknown".
  static Result<Sanitizer> begin(Capture& capture, const Dataset& dataset,
                                 const BindingSet& bindings, const SanitizeOptions& options,
                                 Source source);
  Sanitizer(Sanitizer&&) noexcept;
  ~Sanitizer();

  /// Resumes from a checkpoint; for a vanishing capture, before the first advance(). Returns the
  /// caller's own part. Error codes: those of Checkpoint::load.
  Result<Json> restore(Checkpoint& checkpoint);
  /// For a vanishing capture. Error codes: those of writing.
  Result<void> save(Checkpoint& checkpoint, const Json& more) const;

  /// Takes what is new in the capture, until `deadline`. Returns whether that was all.
  bool advance(Deadline deadline = Deadline::max());
  /// See Surveyor::set_starting().
  void set_starting(bool is_starting);
  std::vector<Progress> progress() const;  ///< of the requested definitions
  std::uint64_t calls() const;
  /// Why most calls so far gave no workload; empty if none did not.
  std::string why_none() const;
  /// Error codes: "disk_full", "locked", and those of writing.
  Result<SanitizeOutcome> finish();

 private:
  class Work;
  explicit Sanitizer(std::unique_ptr<Work> work);
  std::unique_ptr<Work> work_;
};

/// Error codes: "definition_unknown" (with names like it), "disk_full", "locked", and those of
/// writing.
Result<SanitizeOutcome> sanitize(Capture& capture, const Dataset& dataset,
                                 const BindingSet& bindings, const SanitizeOptions& options);

}  // namespace cw
