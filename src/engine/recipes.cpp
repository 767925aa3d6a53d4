#include "engine/recipes.h"

#include <algorithm>

#include <fcntl.h>

#include "base/file.h"
#include "base/yaml.h"

namespace cw {
namespace {

constexpr std::size_t max_recipes_file = 16 << 20;

void allow_only(const YAML::Node& node, std::initializer_list<std::string_view> known) {
  if (const auto name = unknown_field(node, known))
    throw YAML::Exception(name->Mark(), "unknown field '" + name->as<std::string>() + "'");
}

std::vector<std::string> words(const YAML::Node& node) {
  std::vector<std::string> result;
  for (const auto& word : node) result.push_back(word.as<std::string>());
  return result;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> result;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t end = std::min(text.find(' ', i), text.size());
    if (end > i) result.push_back(text.substr(i, end - i));
    i = end + 1;
  }
  return result;
}

std::vector<FlagChoice> flags(const YAML::Node& node) {
  std::vector<FlagChoice> result;
  for (const auto& item : node) {
    FlagChoice choice;
    if (item.IsMap()) allow_only(item, {"any"});
    if (item.IsMap())
      for (const auto& alternative : item["any"])
        choice.alternatives.push_back(split(alternative.as<std::string>()));
    else
      choice.alternatives.push_back(split(item.as<std::string>()));
    result.push_back(std::move(choice));
  }
  return result;
}

Stage stage(const YAML::Node& node) {
  allow_only(node, {"profile", "page_size", "sm", "recorder_only", "unreachable", "reach"});
  Stage result;
  result.profile = node["profile"].as<std::string>("");
  if (const YAML::Node sizes = node["page_size"]; sizes && sizes.IsSequence())
    result.page_sizes = sizes.as<std::vector<std::int64_t>>();
  else if (sizes)
    result.page_sizes = {sizes.as<std::int64_t>()};
  if (node["sm"]) result.compute_capability = node["sm"].as<int>();
  if (node["recorder_only"].as<bool>(false)) result.only_method = "recorder";
  result.unreachable = node["unreachable"].as<std::string>("");
  result.reach = node["reach"].as<std::string>("");
  return result;
}

Expression expression(const YAML::Node& node) {
  auto parsed = Expression::parse(node.as<std::string>());
  if (!parsed) throw YAML::Exception(node.Mark(), parsed.error().message);
  return std::move(*parsed);
}

ShapeRule shape_rule(const YAML::Node& node) {
  allow_only(node, {"when", "axes"});
  ShapeRule rule;
  if (node["when"]) rule.when = expression(node["when"]);
  for (const auto& axis : node["axes"])
    rule.axes.emplace_back(axis.first.as<std::string>(), expression(axis.second));
  return rule;
}

Endpoint endpoint(const YAML::Node& node) {
  const auto name = node.as<std::string>();
  if (name == "generate") return Endpoint::generate;
  if (name == "completions") return Endpoint::completions;
  if (name == "chat") return Endpoint::chat;
  throw YAML::Exception(node.Mark(), "there is no endpoint " + name);
}

ClientRecipe client(const YAML::Node& node) {
  allow_only(node, {"modules", "command", "random", "sharegpt"});
  ClientRecipe result{.modules = words(node["modules"]),
                      .command = words(node["command"]),
                      .random = words(node["random"]),
                      .sharegpt = words(node["sharegpt"])};
  if (result.command.empty()) throw YAML::Exception(node.Mark(), "a client requires a command");
  return result;
}

EngineRecipe engine(const YAML::Node& node) {
  EngineRecipe result;
  result.command = words(node["command"]);
  result.help = words(node["help"]);
  result.version = words(node["version"]);
  result.flags = flags(node["flags"]);
  YAML::Node rest;  // which no capture method names
  for (const auto& item : node)
    if (const auto key = item.first.as<std::string>(); key.ends_with("_flags"))
      result.method_flags.emplace(key.substr(0, key.size() - 6), flags(item.second));
    else
      rest[item.first] = item.second;
  allow_only(rest,
             {"command", "help", "version", "flags", "profiles", "stages", "simulated", "capture",
              "port", "information", "checkout", "endpoint", "expert_parallel", "client"});
  result.expert_parallel = words(node["expert_parallel"]);
  for (const auto& item : node["profiles"]) {
    allow_only(item.second, {"flags", "environment", "hides"});
    Profile profile{.flags = flags(item.second["flags"]),
                    .environment = {},
                    .hidden = words(item.second["hides"])};
    for (const auto& variable : item.second["environment"])
      profile.environment.emplace_back(variable.first.as<std::string>(),
                                       variable.second.as<std::string>());
    result.profiles.emplace(item.first.as<std::string>(), std::move(profile));
  }
  for (const auto& item : node["stages"]) {
    Stage parsed = stage(item.second);
    if (!parsed.profile.empty() && !result.profiles.contains(parsed.profile))
      throw YAML::Exception(item.second.Mark(), "there is no profile " + parsed.profile);
    result.stages.emplace(item.first.as<std::string>(), std::move(parsed));
  }
  if (result.command.empty()) throw YAML::Exception(node.Mark(), "an engine requires a command");

  result.is_simulated = node["simulated"].as<bool>(false);
  result.capture_methods = words(node["capture"]);
  result.port = node["port"].as<int>(0);
  result.information = node["information"].as<std::string>("");
  result.checkout = node["checkout"].as<std::string>("");
  if (node["endpoint"]) result.endpoint = endpoint(node["endpoint"]);
  if (node["client"]) result.client = client(node["client"]);
  return result;
}

}  // namespace

bool Profile::hides(const std::string& stage) const {
  return std::ranges::find(hidden, stage) != hidden.end();
}

bool EngineRecipe::has_python() const {
  return std::ranges::any_of(
      command, [](const std::string& word) { return word.find("{python}") != std::string::npos; });
}

Result<Recipes> Recipes::load(const std::filesystem::path& path) {
  if (path.empty()) return parse(std::string(built_in_recipes()));
  CW_TRY(const std::string yaml, read_file(AT_FDCWD, path.string(), max_recipes_file));
  return parse(yaml);
}

Result<Recipes> Recipes::parse(const std::string& yaml) {
  Recipes recipes;
  try {
    const YAML::Node root = YAML::Load(yaml);
    if (root["format"].as<int>(0) != 1)
      return fail("recipes_malformed", "recipes: expected format: 1");
    allow_only(root, {"format", "models", "shapes", "op_types", "engines"});
    for (const auto& item : root["models"]) {
      allow_only(item.second, {"path", "tp", "config", "quantized"});
      ModelRecipe model{.path = item.second["path"].as<std::string>(),
                        .tensor_parallel = item.second["tp"].as<int>(1),
                        .config = nullptr};
      if (model.tensor_parallel < 1) throw YAML::Exception(item.second.Mark(), "tp is at least 1");
      for (const auto& other : item.second["quantized"])
        model.quantized.emplace(other.first.as<std::string>(), other.second.as<std::string>());
      if (item.second["config"]) model.config = to_json(item.second["config"]);
      recipes.models.emplace(item.first.as<std::string>(), std::move(model));
    }
    for (const auto& item : root["shapes"])
      for (const auto& rule : item.second)
        recipes.shapes[item.first.as<std::string>()].push_back(shape_rule(rule));
    for (const auto& item : root["op_types"])
      recipes.op_types.emplace(item.first.as<std::string>(), item.second.as<std::string>());
    for (const auto& item : root["engines"])
      recipes.engines.emplace(item.first.as<std::string>(), engine(item.second));
  } catch (const YAML::Exception& error) {
    return fail("recipes_malformed", "recipes: {}", error.what());
  }
  return recipes;
}

}  // namespace cw
