#include "capture/environment.h"

#include <algorithm>

namespace cw {

void add_capture_variables(Command& command, Variables variables) {
  for (auto& [name, value] : variables) {
    const auto given =
        std::ranges::find(command.environment, name, &std::pair<std::string, std::string>::first);
    if (given == command.environment.end())
      command.environment.emplace_back(std::move(name), std::move(value));
    else if (name == "PYTHONPATH")
      given->second =
          value.substr(0, value.find(':')) + (given->second.empty() ? "" : ":") + given->second;
    else
      given->second = std::move(value);
  }
}

}  // namespace cw
