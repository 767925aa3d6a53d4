// Recipes: which model and flags bring an engine to the calls a definition asks for. They are data,
// in data/recipes.yaml, whose head explains the format.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace cw {

/// One flag, in order of preference: the first that the installed engine knows is taken.
struct FlagChoice {
  std::vector<std::vector<std::string>> alternatives;  ///< each a flag and its values
};

struct Profile {
  std::vector<FlagChoice> flags;
  std::vector<std::pair<std::string, std::string>> environment;
};

/// How an engine is brought to one binding's calls.
struct Stage {
  std::string profile;                    ///< empty: it cannot be
  std::optional<std::int64_t> page_size;  ///< the only one
  std::optional<int> compute_capability;  ///< 100 for SM100
  bool is_recorder_only = false;          ///< FlashInfer does not see these calls
  std::string unreachable, reach;         ///< why not, and what would; where a condition fails
};

struct EngineRecipe {
  std::vector<std::string> command, help, version;
  std::vector<FlagChoice> flags, level10_flags;
  std::map<std::string, Profile> profiles;
  std::map<std::string, Stage> stages;  ///< by binding id
};

struct ModelRecipe {
  std::string path;
  int tensor_parallel = 1;
  Json config;  ///< null when the simulated engine does not know the model
};

struct Recipes {
  std::map<std::string, ModelRecipe> models;
  std::map<std::string, std::string> op_types;
  std::map<std::string, EngineRecipe> engines;

  /// Error code "recipes_malformed", with the place.
  static Result<Recipes> parse(const std::string& yaml);
};

/// data/recipes.yaml as it was when this binary was built.
std::string_view built_in_recipes();

}  // namespace cw
