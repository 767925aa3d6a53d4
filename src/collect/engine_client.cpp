#include "collect/engine_client.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include <fmt/ranges.h>

#include "base/console.h"
#include "engine/plan.h"

namespace cw {
namespace {

// What a recipe's words may stand for; those that are not given are empty.
using Values = std::map<std::string, std::optional<std::string>>;

double rounded_down(double part) {
  constexpr double digits = 1e6;
  return std::floor(part * digits) / digits;
}

Values values_of(const ClientTarget& target, const TrafficRequest& traffic) {
  const auto given = [](bool is_given, auto value) {
    return is_given ? std::optional(fmt::format("{}", value)) : std::nullopt;
  };
  const auto& output = traffic.options.output_tokens;
  const auto low = static_cast<double>(traffic.random.input_low),
             high = static_cast<double>(traffic.random.input_high);
  const std::filesystem::path& file = traffic.prompts;
  return {
      {"python", target.python},
      {"host", target.host},
      {"port", std::to_string(target.port)},
      {"model", given(!target.model.empty(), target.model)},
      {"prompts", std::to_string(traffic.num_prompts.value_or(TrafficRequest::max_prompts))},
      {"concurrency", given(traffic.concurrency > 0, traffic.concurrency)},
      {"rate", given(traffic.request_rate > 0, traffic.request_rate)},
      {"output", given(output.has_value(), output ? output->second : 0)},
      {"path", given(!file.empty(), file.empty() ? "" : std::filesystem::absolute(file).string())},
      // Of lengths of random prompts: the longest, the shortest as a part of it; or the middle and
      // how far they may be from it, as a part of that.
      {"longest", std::to_string(traffic.random.input_high)},
      {"shortest_part", fmt::format("{}", low / high)},
      {"middle", std::to_string((traffic.random.input_low + traffic.random.input_high) / 2)},
      {"spread_part", fmt::format("{}", rounded_down((high - low) / (high + low)))},  // below 1
  };
}

// The words with their values; a word is left out if it stands for something that is not given.
void add(std::vector<std::string>& to, const std::vector<std::string>& words,
         const Values& values) {
  std::map<std::string, std::string> given;
  for (const auto& [name, value] : values)
    if (value) given.emplace(name, *value);
  for (const std::string& word : words) {
    const bool is_open = std::ranges::any_of(values, [&word](const auto& item) {
      return !item.second && word.find("{" + item.first + "}") != std::string::npos;
    });
    if (!is_open) to.push_back(fill_in({word}, given)[0]);
  }
}

// The first of the modules that the Python has; looked for as files, as importing takes seconds.
Result<std::string> find_module(const std::string& python, const std::vector<std::string>& names) {
  constexpr std::string_view script = R"(
import importlib.util, os, sys
for name in sys.argv[1:]:
    package, *rest = name.split(".")
    spec = importlib.util.find_spec(package)
    for root in spec.submodule_search_locations or () if spec else ():
        path = os.path.join(root, *rest)
        if os.path.exists(path + ".py") or os.path.isdir(path): sys.exit(print(name))
)";
  Command command{{python, "-c", std::string(script)}};
  command.arguments.insert(command.arguments.end(), names.begin(), names.end());
  const auto found = run(command, std::chrono::seconds(60));
  if (!found && found.error().code == "interrupted") return tl::unexpected(found.error());
  if (!found)
    return fail("client_missing", "{} cannot be asked which client it has: {}", python,
                found.error().message);
  if (chomp(*found).empty())
    return fail("client_missing", "{} has none of {}: leave out --via, or install it there", python,
                fmt::join(names, ", "));
  return chomp(*found);
}

}  // namespace

Result<Command> client_command(const ClientRecipe& recipe, const ClientTarget& target,
                               const TrafficRequest& traffic) {
  Values values = values_of(target, traffic);
  if (!recipe.modules.empty()) {
    CW_TRY(values["module"], find_module(target.python, recipe.modules));
  }
  Command command;
  add(command.arguments, recipe.command, values);
  add(command.arguments, traffic.uses_random_prompts ? recipe.random : recipe.sharegpt, values);
  return command;
}

}  // namespace cw
