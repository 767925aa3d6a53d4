// Timestamps and names derived from them.
#pragma once

#include <filesystem>
#include <string>

namespace cw {

/// The current UTC time as used in folder names: 20261125T173000Z.
std::string timestamp();

/// The path itself, or the first of PATH-2, PATH-3, … that does not exist.
std::filesystem::path first_unused(const std::filesystem::path& wanted);

}  // namespace cw
