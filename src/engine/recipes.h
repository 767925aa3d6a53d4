// Recipes: which model and flags make an engine issue the calls a definition needs. They are data,
// in data/recipes.yaml, whose header explains the format.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "engine/model.h"
#include "traffic/traffic.h"

namespace cw {

/// One flag, in order of preference: the first that the installed engine knows is taken.
struct FlagChoice {
  std::vector<std::vector<std::string>> alternatives;  ///< each a flag and its values
};

struct Profile {
  std::vector<FlagChoice> flags;
  std::vector<std::pair<std::string, std::string>> environment;
  std::vector<std::string> hidden;  ///< stages that cannot be reached with it

  bool hides(const std::string& stage) const;
};

/// How to make an engine issue one binding's calls.
struct Stage {
  std::string profile;                    ///< empty: not possible
  std::vector<std::int64_t> page_sizes;   ///< the only ones supported; empty: any
  std::optional<int> compute_capability;  ///< 100 for SM100
  std::string only_method;                ///< only capture method to see these calls; empty: any
  std::string unreachable, reach;         ///< if a condition fails: why, and what would help
};

/// An engine's own client. In its words, {python}, {module}, {host}, {port}, {model}, {prompts},
/// {concurrency}, {rate}, {output}, {path}, {longest}, {shortest_part}, {middle} and {spread_part}
/// are replaced (engine_client.cpp); words whose value is not given are left out.
struct ClientRecipe {
  std::vector<std::string> modules;  ///< of which the first that is installed is {module}
  std::vector<std::string> command;
  std::vector<std::string> random, sharegpt;  ///< added for such prompts
};

struct EngineRecipe {
  std::vector<std::string> command, help, version;
  std::vector<FlagChoice> flags;
  /// Flags added for a capture method, by its name.
  std::map<std::string, std::vector<FlagChoice>, std::less<>> method_flags;
  std::vector<std::string> expert_parallel;  ///< added where experts are divided
  std::map<std::string, Profile> profiles;
  std::map<std::string, Stage> stages;  ///< by binding id

  bool is_simulated = false;                 ///< no model runs: only for trying things out
  std::vector<std::string> capture_methods;  ///< those that work with it; empty: all
  int port = 0;                              ///< its default port; 0: unknown
  std::string information;                   ///< route of its server information; empty: none
  std::optional<Endpoint> endpoint;          ///< the API to use; nothing: probe the server
  std::optional<ClientRecipe> client;
  std::string checkout;  ///< usual location of its git checkout; or empty

  /// Whether it is installed in a Python environment.
  bool has_python() const;
};

struct ModelRecipe {
  std::string path;
  int tensor_parallel = 1;
  Json config;  ///< members of its config.json; null: not known
  /// Paths of the same model with weights of another type, by its name: "float8".
  std::map<std::string, std::string> quantized;
};

struct Recipes {
  std::map<std::string, ModelRecipe> models;
  ShapeRules shapes;
  std::map<std::string, std::string> op_types;
  std::map<std::string, EngineRecipe> engines;

  /// Error code "recipes_malformed", with the location.
  static Result<Recipes> parse(const std::string& yaml);
  /// From a file; with an empty path, the built-in ones. Error codes: as above, and those of
  /// reading.
  static Result<Recipes> load(const std::filesystem::path& path);
};

/// data/recipes.yaml as it was when this binary was built.
std::string_view built_in_recipes();

}  // namespace cw
