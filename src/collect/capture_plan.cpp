#include "collect/capture_plan.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "base/shell.h"

namespace cw {
namespace {

std::string self_path() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

// The method asked for, or the engine's first.
Result<const CaptureMethod*> choose_method(const CaptureRequest& request,
                                           const EngineRecipe* recipe) {
  if (recipe == nullptr || recipe->capture_methods.empty())
    return request.method != nullptr ? request.method : capture_methods().front();

  const std::vector<std::string>& names = recipe->capture_methods;
  if (request.method == nullptr) {
    const CaptureMethod* usual = find_capture_method(names.front());
    if (usual != nullptr) return usual;
    return fail("capture_unsupported", "no capture method is called {}", names.front());
  }
  if (std::ranges::find(names, request.method->name()) != names.end()) return request.method;
  return fail("capture_unsupported",
              "the {} engine can only be captured by {}: leave out --capture",
              request.engine.engine, fmt::join(names, ", "));
}

}  // namespace

CaptureNeeds CapturePlan::needs_of(const EngineRun& run) const {
  return cw::needs_of(bindings, run.bindings);
}

Result<Variables> CapturePlan::environment(const EngineRun& run,
                                           const std::filesystem::path& folder) const {
  CaptureOptions options = capture;
  options.keeps_values = true;  // a dataset needs them: top_p and routing_logits are part of it
  return method->environment(folder, needs_of(run), options);
}

Result<CapturePlan> plan_capture(const CaptureRequest& request) {
  CapturePlan plan;
  CW_TRY(plan.bindings, BindingSet::load(request.bindings));
  CW_TRY(plan.recipes, Recipes::load(request.engine.recipes));
  CW_TRY(plan.dataset, Dataset::open(request.trace_dir));
  // A model alone is asked for all that it calls.
  plan.takes_all = request.definition_names.empty() && request.op_types.empty();
  if (plan.takes_all && !request.takes_all && request.engine.model_name.empty())
    return fail("nothing_asked",
                "name what to collect: --definition-name NAME, --op-type TYPE, --model-name MODEL "
                "for all that it calls, or --all");
  CW_TRY(plan.chosen, choose_definitions(plan.dataset, request.definition_names, request.op_types));

  // Which engine, and how its calls are captured.
  const EngineChoice& engine = request.engine;
  const auto recipe = plan.recipes.engines.find(engine.engine);
  if (engine.launch_command.empty() && recipe != plan.recipes.engines.end())
    plan.recipe = &recipe->second;
  CW_TRY(plan.method, choose_method(request, plan.recipe));
  plan.capture = request.capture;
  const bool has_python = plan.recipe == nullptr || plan.recipe->has_python();
  plan.python = "python3";
  if (has_python) {
    CW_TRY(plan.python, find_python(engine.environment));
  }

  EnginePlanOptions options;
  options.engine = engine.engine;
  options.capture = plan.method;
  options.python = plan.python;
  options.self = self_path();
  options.model_name = engine.model_name;
  options.tensor_parallel = engine.tensor_parallel;
  options.takes_all = plan.takes_all;
  if (!engine.launch_command.empty()) {
    CW_TRY(plan.launch, parse_launch_command(engine.launch_command, plan.recipes));
    if (plan.launch.port != 0 && request.port != 0 && request.port != plan.launch.port)
      return fail("port_unknown",
                  "the launch command listens on port {}, and --port says {}: write {{port}} in it",
                  plan.launch.port, request.port);
    options.launch_command = plan.launch.words;
    options.launch_environment = plan.launch.environment;
  } else if (has_python) {
    plan.gpus = find_gpus();
    options.compute_capability = plan.gpus.compute_capability;
    options.gpus = plan.gpus.count;
    options.gpu_memory = plan.gpus.memory;
  }
  plan.host = plan.launch.host.value_or(request.host);
  plan.given_flags = shell_words(engine.engine_flags);

  CW_TRY(plan.engine, plan_runs(plan.chosen, plan.bindings, plan.recipes, options));
  return plan;
}

}  // namespace cw
