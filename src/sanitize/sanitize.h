// The main job: a capture becomes workloads of a dataset.
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
  std::size_t num_samples = 64;  ///< at most so many workloads a definition (Selection::diverse)
  std::vector<std::string> definition_names;  ///< empty: all
  std::vector<std::string> op_types;          ///< empty: all
  bool includes_suspicious = false;           ///< also calls that are no traffic by their looks
  bool is_dry_run = false;                    ///< writes nothing
  std::optional<RunRecord> run;               ///< how the capture was made, where that is known
  std::function<void(std::size_t calls_done)> progress = [](std::size_t) {};
  std::chrono::steady_clock::duration slowness{};  ///< for tests: each call takes so much longer
};

/// A workload that the capture gave and the selection kept.
struct KeptWorkload {
  std::string id;          ///< in the dataset
  std::uint64_t seen = 0;  ///< calls with this very content: layers times steps
  /// Calls that it represents; those of all kept add up to the definition's.
  std::uint64_t stands_for = 0;
  bool is_new = false;  ///< not in the dataset before
  bool is_capture_warmup = false;
  WorkloadNotes notes;
};

struct DefinitionOutcome {
  const Definition* definition = nullptr;  ///< of the dataset given to sanitize()
  /// Why there are none, or what a user who waits for calls should know; may be empty.
  std::string status;
  /// Where the defaults of what may be derived are documented.
  std::map<std::string, std::string> cites;
  std::uint64_t calls = 0;
  /// Of them: without a workload, by why; "values_sampled_out" is usual.
  std::map<std::string, std::uint64_t> unseen;
  std::size_t distinct = 0;
  Distribution distribution;  ///< of all calls
  std::uint64_t padded = 0;   ///< calls of batches that were filled up with sequences that are none
  std::map<std::string, std::uint64_t> derived;
  std::vector<KeptWorkload> kept;
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;  ///< seen of each var axis

  /// No binding knows its op type, its tag or its inputs; `status` says so.
  bool lacks_binding = false;
  /// Whether the user asked for this definition, rather than for all.
  bool is_asked_for = false;

  std::size_t added() const;
};

struct SanitizeOutcome {
  std::vector<DefinitionOutcome> definitions;  ///< those asked for, by name
  Survey survey;              ///< without its counts by target; those are in `definitions`
  std::size_t recovered = 0;  ///< blobs of an interrupted run that were taken back
};

/// How a definition fares while a capture grows.
struct Progress {
  const Definition* definition = nullptr;
  std::uint64_t calls = 0;
  std::uint64_t calls_since_new = 0;  ///< since one had var axes in an octave where none had been
  std::size_t distinct = 0;
  std::size_t cells = 0;  ///< octaves of the var axes that were met
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;  ///< of each var axis
};

/// Sanitizes a capture that still grows: advance() as often as there is something new, finish()
/// once, which selects and writes. All references must outlive it.
class Sanitizer {
 public:
  enum class Source {
    lasting,    ///< calls can be read again in the end
    vanishing,  ///< they are deleted on the way: what may be selected is kept in memory
  };
  /// Error codes: "definition_unknown" (with names like it), "input_unknown".
  static Result<Sanitizer> begin(const Capture& capture, const Dataset& dataset,
                                 const BindingSet& bindings, const SanitizeOptions& options,
                                 Source source);
  Sanitizer(Sanitizer&&) noexcept;
  ~Sanitizer();

  /// Goes on from a checkpoint; before the first advance(), of a vanishing capture. Returns the
  /// caller's own part. Error codes: those of Checkpoint::load.
  Result<Json> restore(Checkpoint& checkpoint);
  /// Of a vanishing capture. Error codes: those of writing.
  Result<void> save(Checkpoint& checkpoint, const Json& more) const;

  /// Takes what the capture has got since; until `deadline`. Whether that was all.
  bool advance(Deadline deadline = Deadline::max());
  /// As Surveyor::set_starting().
  void set_starting(bool is_starting);
  std::vector<Progress> progress() const;  ///< of the definitions asked for
  std::uint64_t calls() const;
  /// Error codes: "disk_full", "locked", and those of writing.
  Result<SanitizeOutcome> finish();

 private:
  class Work;
  explicit Sanitizer(std::unique_ptr<Work> work);
  std::unique_ptr<Work> work_;
};

/// Error codes: "definition_unknown" (with names like it), "disk_full", "locked", and those of
/// writing.
Result<SanitizeOutcome> sanitize(const Capture& capture, const Dataset& dataset,
                                 const BindingSet& bindings, const SanitizeOptions& options);

}  // namespace cw
