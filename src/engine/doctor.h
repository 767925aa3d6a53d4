// Whether an installation will be recorded: every rule of the recorder and every binding against
// the source of the packages that a Python has. Nothing of them is imported, and no GPU is needed.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bind/binding.h"
#include "capture/method.h"

namespace cw {

/// The distribution that has FlashInfer's API.
inline constexpr const char* flashinfer_package = "flashinfer-python";

struct PackageCheck {
  std::string name;     ///< of the distribution
  std::string version;  ///< empty: not installed
  bool is_tried = false;
};

/// A rule of data/recorder.yaml for a package that is installed.
struct RuleCheck {
  std::string kind;  ///< "functions", "scopes", "batches" or "decorators"
  std::string module, name;
  std::string package;  ///< the distribution that the module belongs to
  std::string missing;  ///< what of it is not there: "module", "name", "parameter"; empty: nothing
};

struct BindingCheck {
  const Binding* binding = nullptr;
  std::string why_not;  ///< no call of this installation can be bound by it; empty: they can
};

struct Diagnosis {
  std::string python;      ///< its version
  std::string executable;  ///< its path
  std::vector<PackageCheck> packages;
  std::vector<RuleCheck> rules;        ///< those that apply to the installed versions
  std::vector<BindingCheck> bindings;  ///< those that some API can give; in the set's order

  const PackageCheck* package(std::string_view name) const;
  /// FlashInfer is there, and so is everything that the rules for what is installed name.
  bool is_healthy() const;
};

/// `rules`: the text of data/recorder.yaml or a similar file. Takes two seconds. Error codes:
/// "rules_invalid", "python_unusable" (it does not start, or is too old), and those of running it.
Result<Diagnosis> diagnose(const std::string& python, const BindingSet& bindings,
                           const std::string& rules);

/// "sglang.srt.x: F.linear is not there; calls that only this rule shows are missing"
std::string describe(const RuleCheck& broken);

/// A distribution as people call it: "SGLang".
std::string_view title_of(std::string_view package);

/// What makes recordings of an installation doubtful, a sentence each, by the rules alone: half a
/// second, and ten at most. The Python is asked with these variables in its environment. Empty:
/// nothing, or nothing could be found out; `python` and `rules` may be empty.
std::vector<std::string> doubts(const std::string& python, const std::string& rules,
                                const Variables& environment);

/// data/doctor.py as it was at build time.
std::string_view built_in_doctor_script();

}  // namespace cw
