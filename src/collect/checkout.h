// An engine built from its git checkout: brought up to date on a branch of its own and installed in
// place.
//
// The checkout is somebody's work. A tree with uncommitted changes, a branch with commits that no
// remote has, and a folder that is no repository of its own are used as they are; no branch of the
// user's is ever moved.
#pragma once

#include <functional>
#include <string>

#include "base/process.h"

namespace cw {

struct CheckoutOptions {
  std::filesystem::path path;
  std::string branch;       ///< made from the remote's main; moved there again only while it has no
                            ///< commits of its own
  std::string python;       ///< whose environment it is installed into
  bool updates = true;      ///< off: installed as it stands
  bool is_dry_run = false;  ///< only looks, and says what would be run
};

/// Fetches, puts the branch on the remote's main, and runs `pip install -e` on the folder that
/// holds its pyproject.toml. `say` is given each command that changes something before it runs, and
/// `note` why something is left as it is. Error codes: "not_found", "command_failed" and the others
/// of run().
Result<void> prepare_checkout(const CheckoutOptions& options,
                              const std::function<void(const std::string&)>& say,
                              const std::function<void(const std::string&)>& note);

}  // namespace cw
