#include <cstdio>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/console.h"
#include "base/file.h"
#include "cli/commands.h"

namespace cw::cli {

Result<Recipes> load_recipes(const std::filesystem::path& path) {
  if (path.empty()) return Recipes::parse(std::string(built_in_recipes()));
  CW_TRY(const std::string yaml, read_file(AT_FDCWD, path.string(), 16 << 20));
  return Recipes::parse(yaml);
}

namespace {

// A folder with config.json, or a model of the recipes, by its name or its path on the Hub.
Result<Json> config_of(const std::string& model, const Recipes& recipes) {
  const std::filesystem::path file = std::filesystem::path(model) / "config.json";
  std::error_code error;
  if (std::filesystem::exists(file, error)) {
    CW_TRY(const std::string text, read_file(AT_FDCWD, file.string(), 16 << 20));
    auto config = parse_json(text);
    if (!config) return fail("model_unsupported", "{} is not JSON", file.string());
    return std::move(*config);
  }
  std::string known;
  for (const auto& [name, recipe] : recipes.models) {
    if (recipe.config.is_null()) continue;
    if (name == model || recipe.path == model) return recipe.config;
    known += (known.empty() ? "" : ", ") + name;
  }
  return fail(
      "model_unsupported",
      "the simulated engine does not know {}; give a folder with its config.json, or one of {}",
      model, known);
}

}  // namespace

int run_serve(const ServeArguments& arguments, const CommonArguments& common) {
  watch_signals();
  ::umask(077);  // its dumps are the user's alone
  const auto recipes = load_recipes(arguments.recipes);
  if (!recipes) return report(recipes.error());
  simulated::ServerOptions options = arguments.options;
  options.host = arguments.address.host;
  options.port =
      static_cast<std::uint16_t>(arguments.address.port > 0 ? arguments.address.port : 30000);
  const auto config = config_of(options.model, *recipes);
  if (!config) return report(config.error());
  const auto shape = simulated::shape_from_config(*config, arguments.tensor_parallel);
  if (!shape) return report(shape.error());
  options.scheduler.shape = *shape;
  options.scheduler.tensor_parallel = arguments.tensor_parallel;
  const char* paged = std::getenv("SGLANG_FLASHINFER_USE_PAGED");
  options.scheduler.uses_paged_prefill = paged != nullptr && std::string_view(paged) == "1";
  if (!common.is_quiet)
    print(stderr, fmt::format("Simulating {} (tp {}) on http://{}:{}\n", options.model,
                              arguments.tensor_parallel, options.host, options.port));
  const auto served = simulated::serve(options);
  if (!served)
    return report(served.error(),
                  served.error().code == "port_taken" ? "Give another --port." : "");
  return exit_success;
}

}  // namespace cw::cli
