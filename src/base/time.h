// Times and names made of them.
#pragma once

#include <filesystem>
#include <string>

namespace cw {

/// Now, in UTC, as names of folders have it: 20261125T173000Z.
std::string timestamp();

/// That path, or with -2, -3… behind it the first that is not there.
std::filesystem::path first_unused(const std::filesystem::path& wanted);

}  // namespace cw
