// An engine built from its git checkout: brought up to date on a branch of its own and installed in place.
#pragma once

#include <functional>
#include <string>

#include "base/process.h"

namespace cw {

struct CheckoutOptions {
  std::filesystem::path path;
  std::string branch;        ///< made from main, or reset to it
  std::string python;        ///< whose environment it is installed into
  bool updates = true;       ///< off: installed as it stands
};

/// Fetches, checks out main, pulls, makes the branch and runs `pip install -e` on the folder that holds its
/// pyproject.toml. `say` is told each command. A checkout with uncommitted changes is not touched, and said.
/// Error codes: "not_found", "command_failed" and the others of run().
Result<void> prepare_checkout(const CheckoutOptions& options, const std::function<void(const std::string&)>& say);

}  // namespace cw
