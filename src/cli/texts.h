// Texts on results that several commands print.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "sanitize/sanitize.h"
#include "traffic/traffic.h"

namespace cw::cli {

/// The table of what a capture gave. Definitions in `always_shown` have a row even without calls.
std::string describe(const SanitizeOutcome& outcome, const std::vector<std::string>& always_shown);

struct NextSteps {
  std::filesystem::path trace_dir;
  bool is_dry_run = false, is_simulated = false;
  std::string capture;  ///< where it still is; empty: nowhere
};
/// What to do next, after that table.
std::string next_steps(const SanitizeOutcome& outcome, const NextSteps& steps);

/// What is done with a dataset from here on, one command per line. What was simulated is not
/// submitted.
std::string next_commands(const std::filesystem::path& trace_dir, bool is_simulated);

/// Names what these datasets have that no command handles: "Skipped in DIR: solutions,
/// traces"; one line per dataset.
std::string describe_others(const std::vector<std::filesystem::path>& roots);

/// losses: without what is known beforehand to be none (no definition for it, not selected).
enum class TallyScope { losses, everything };
/// The rejected calls and defects of a survey, most serious first, as text of 80 columns.
std::string describe_tally(const Tally& tally, TallyScope scope);

/// How traffic went.
std::string describe(const TrafficReport& report);

/// "call", or "calls": with the number in front.
std::string counted(std::uint64_t count, std::string_view one, std::string_view more);

/// Workloads that were kept, and those of them that are new.
struct KeptCounts {
  std::size_t kept = 0, added = 0;
};
KeptCounts count_kept(const SanitizeOutcome& outcome);

}  // namespace cw::cli
