// The recorder's files, as embedded in this binary.
#pragma once

#include <span>
#include <string_view>

namespace cw::recording {

struct BuiltInFile {
  std::string_view name, content;
};
std::span<const BuiltInFile> built_in_recorder();

}  // namespace cw::recording
