#include "base/time.h"

#include <ctime>

#include <fmt/format.h>

namespace cw {

std::string timestamp() {
  char text[32];
  const std::time_t now = std::time(nullptr);
  std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", std::gmtime(&now));
  return text;
}

std::filesystem::path first_unused(const std::filesystem::path& wanted) {
  std::filesystem::path path = wanted;
  std::error_code error;
  for (int i = 2; std::filesystem::exists(path, error); ++i)
    path = wanted.string() + fmt::format("-{}", i);
  return path;
}

}  // namespace cw
