// How errors are told to a user.
#pragma once

#include <string_view>

#include "base/result.h"

namespace cw::cli {

/// Prints an error to stderr and returns exit_failure. `advice` says what to do next; without one,
/// the usual advice for the error's code.
int print_error(const Error& error, std::string_view advice = {});

/// Advice for an error's code; empty when there is none.
std::string_view advice_for(std::string_view code);

}  // namespace cw::cli
