// Recipes: which model and flags bring an engine to the calls a definition asks for. They are data,
// in data/recipes.yaml, whose head explains the format.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "traffic/traffic.h"

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
  std::string only_method;                ///< of capture, that sees these calls; empty: any
  std::string unreachable, reach;         ///< why not, and what would; where a condition fails
};

struct EngineRecipe {
  std::vector<std::string> command, help, version;
  std::vector<FlagChoice> flags;
  /// Added for a capture method, by its name.
  std::map<std::string, std::vector<FlagChoice>, std::less<>> method_flags;
  std::map<std::string, Profile> profiles;
  std::map<std::string, Stage> stages;  ///< by binding id

  bool is_simulated = false;                 ///< no model runs: what it gives only tries things out
  std::vector<std::string> capture_methods;  ///< that it can be captured by; empty: all
  int port = 0;                              ///< that it listens on unless it is told; 0: not known
  std::string information;                   ///< route of what it says of itself; empty: none
  std::optional<Endpoint> endpoint;          ///< that it is spoken to by; nothing: it is asked
  std::string checkout;                      ///< where a git checkout of it usually lies; or empty

  /// Whether it is installed in a Python.
  bool has_python() const;
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
  /// Of a file; without one, the built-in ones. Error codes: likewise, and those of reading.
  static Result<Recipes> load(const std::filesystem::path& path);
};

/// data/recipes.yaml as it was when this binary was built.
std::string_view built_in_recipes();

}  // namespace cw
