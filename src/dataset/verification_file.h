// verification.json beside a dataset's workloads: what `verify` found, and for which content.
//
//   {"format": 1, "environment": {…},
//    "definitions": {NAME: {"fingerprint": …, "workloads": n, "loaded": n, "executed": n,
//                           "reference": "ran"|"absent"|"not_run", "device": …
//                           "failures": [{"uuid": …, "stage": "load"|"execute", "message": …}]}},
//    "replay": {…}}
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "dataset/dataset.h"

namespace cw {

inline constexpr const char* verification_file = "verification.json";

struct VerificationFailure {
  std::string workload;  ///< its id
  std::string stage;     ///< "load": flashinfer-bench could not make its inputs; "execute": the
                         ///< reference failed
  std::string message;
};

/// Whether a definition's reference was run; absent: it raises NotImplementedError, as stubs do.
enum class Reference { not_run, absent, ran };

struct DefinitionVerification {
  std::string fingerprint;
  std::size_t workloads = 0;
  std::size_t loaded = 0;    ///< inputs made by flashinfer-bench's own loader
  std::size_t executed = 0;  ///< of these, run through the reference
  Reference reference = Reference::not_run;
  std::string device;  ///< on which inputs were made and run
  std::vector<VerificationFailure> failures;

  /// Everything that can be checked was, and nothing failed.
  bool is_passed() const {
    return failures.empty() && loaded == workloads &&
           (reference == Reference::absent ||
            (reference == Reference::ran && executed == workloads));
  }
};

/// Recorded calls that were run again.
struct ReplayVerification {
  std::size_t dumps = 0;
  std::size_t passed = 0;  ///< ran, and reproduced the recorded outputs, if any
  /// Of these: had outputs to compare with (plans and in-place operations have none).
  std::size_t compared = 0;
  std::size_t failed = 0, skipped = 0;
  std::size_t undecided = 0;                   ///< replay says mismatch but cannot compare them
  std::vector<std::string> failures;           ///< the first few, as `flashinfer replay` words them
  std::map<std::string, std::size_t> reasons;  ///< of undecided calls
};

struct Verification {
  Json environment = Json::object();  ///< versions, device
  std::map<std::string, DefinitionVerification> definitions;
  std::optional<ReplayVerification> replay;

  /// The definition's entry, if what was verified is what the dataset holds now.
  const DefinitionVerification* find(const std::string& name, const std::string& fingerprint) const;
};

/// A fingerprint of a definition's file, its workloads in any order, and their tensors.
Result<std::string> fingerprint(const Dataset& dataset, const Definition& definition);

/// Empty if there is no file. Error codes: "verification_invalid", and those of reading.
Result<Verification> read_verification(const std::filesystem::path& root);
Json to_json(const std::vector<VerificationFailure>& failures);
Json to_json(const ReplayVerification& replay);
/// What the file holds.
Json to_json(const Verification& verification);

}  // namespace cw
