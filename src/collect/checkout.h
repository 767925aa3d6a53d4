// An engine built from its git checkout: brought up to date on a branch of its own and installed in
// place.
//
// The checkout may contain the user's work. A tree with uncommitted changes, a branch with unpushed
// commits, and a folder that is not a repository of its own are used as they are; none of the
// user's branches is ever moved.
#pragma once

#include <functional>
#include <string>

#include "base/process.h"

namespace cw {

struct CheckoutOptions {
  std::filesystem::path path;
  std::string branch;       ///< created from the remote's main; reset to it only while it has no
                            ///< commits of its own
  std::string python;       ///< whose environment it is installed into
  bool updates = true;      ///< off: installed as it is
  bool is_dry_run = false;  ///< only reports what would be run
};

/// Fetches, moves the branch to the remote's main, and runs `pip install -e` on the folder with its
/// pyproject.toml. `say` is called with each command that changes something before it runs, `note`
/// with the reason if something is left as it is. Error codes: "not_found", "command_failed" and
/// the others of run().
Result<void> prepare_checkout(const CheckoutOptions& options,
                              const std::function<void(const std::string&)>& say,
                              const std::function<void(const std::string&)>& note);

}  // namespace cw
