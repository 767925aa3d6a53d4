#include "engine/plan.h"

#include <algorithm>
#include <charconv>

#include <fmt/ranges.h>

namespace cw {
namespace {

const ModelRecipe* find_model(const Recipes& recipes, const std::string& name) {
  const auto found = recipes.models.find(name);
  return found == recipes.models.end() ? nullptr : &found->second;
}

// The op type's usual model if the definition names it, or names no known model; otherwise the
// first one it names.
std::string model_for(const Definition& definition, const Recipes& recipes) {
  const auto usual = recipes.op_types.find(definition.op_type);
  const auto tags = definition.tag_values("model");
  std::string first;
  for (const std::string_view tag : tags) {
    if (usual != recipes.op_types.end() && usual->second == tag) return usual->second;
    if (first.empty() && find_model(recipes, std::string(tag)) != nullptr) first = tag;
  }
  if (!first.empty()) return first;
  return usual != recipes.op_types.end() ? usual->second : "";
}

int tensor_parallel_for(const Definition& definition, const ModelRecipe* model) {
  const auto tags = definition.tag_values("tp");
  int value = 0;
  if (!tags.empty()) std::from_chars(tags[0].data(), tags[0].data() + tags[0].size(), value);
  if (value > 0) return value;
  return model != nullptr ? model->tensor_parallel : 1;
}

std::int64_t page_size_of(const Definition& definition) {
  const Axis* axis = definition.axis("page_size");
  return axis != nullptr && axis->constant ? *axis->constant : 1;
}

// Why a stage is unreachable; nothing if it is reachable, as far as is known.
std::optional<Unreachable> obstacle(const Definition& definition, const Stage& stage,
                                    const EnginePlanOptions& options) {
  if (stage.profile.empty()) return Unreachable{&definition, stage.unreachable, stage.reach};
  if (!stage.only_method.empty() && stage.only_method != options.capture->name())
    return Unreachable{&definition, stage.unreachable, stage.reach};
  if (!stage.page_sizes.empty() &&
      std::ranges::find(stage.page_sizes, page_size_of(definition)) == stage.page_sizes.end())
    return Unreachable{&definition, stage.unreachable, stage.reach};
  if (stage.compute_capability && options.compute_capability != 0 &&
      options.compute_capability < *stage.compute_capability)
    return Unreachable{&definition,
                       fmt::format("its kernels need SM{}, this GPU is SM{}",
                                   *stage.compute_capability, options.compute_capability),
                       fmt::format("a GPU of compute capability {}.{} or more",
                                   *stage.compute_capability / 10, *stage.compute_capability % 10)};
  return {};
}

bool mentions(const std::vector<FlagChoice>& flags, const std::string& mark) {
  for (const FlagChoice& choice : flags)
    for (const auto& words : choice.alternatives)
      for (const std::string& word : words)
        if (word.find(mark) != std::string::npos) return true;
  return false;
}

void add_unique(std::vector<const Binding*>& list, const Binding* binding) {
  if (std::ranges::find(list, binding) == list.end()) list.push_back(binding);
}

// Gives each definition a run that reaches it; definitions share a run where they can.
class RunPlanner {
 public:
  /// Without an engine, everything is reached by the options' launch command.
  RunPlanner(const BindingSet& bindings, const Recipes& recipes, const EnginePlanOptions& options,
             const EngineRecipe* engine)
      : bindings_(bindings),
        recipes_(recipes),
        options_(options),
        engine_(engine),
        names_page_size_(engine != nullptr && mentions(engine->flags, "{page_size}")),
        has_own_model_(!options.model_name.empty() || engine == nullptr) {}

  void add(const Definition& definition) {
    const auto serving = bindings_.serving(definition);
    if (!serving) return give_up({&definition, serving.error().message, ""});
    if (!serving->front()->unbindable.empty())
      return give_up({&definition, serving->front()->unbindable, ""});

    // The first API that the engine calls, and all others that it may call in the same run.
    std::optional<Unreachable> why;
    bool has_stage = false;  // what a stage says is wrong says more than that there is none
    EngineRun* run = nullptr;
    for (const Binding* binding : *serving) {
      const auto stage = stage_of(definition, *binding);
      if (!stage) {
        const bool is_first = !has_stage && engine_->stages.contains(binding->id);
        if (!why || is_first) why = stage.error();
        has_stage = has_stage || is_first;
        continue;
      }
      if (run == nullptr) {
        auto needs = needs_of(definition, *stage);
        if (!needs) return give_up(std::move(needs.error()));
        run = &run_for(*needs);
        run->definitions.push_back(&definition);
      }
      if (*stage == run->profile) add_unique(run->bindings, binding);
    }
    if (run == nullptr) give_up(std::move(*why));
  }

  EnginePlan take() { return std::move(plan_); }

 private:
  // What a definition needs of a run.
  struct Needs {
    std::string profile = "command", model;
    std::int64_t page_size = 1;
    int tensor_parallel = 1;
    const ModelRecipe* recipe = nullptr;  // the model's; null: the user names it
  };

  void give_up(Unreachable why) { plan_.unreachable.push_back(std::move(why)); }

  // The profile with which the engine calls a binding's API.
  tl::expected<std::string, Unreachable> stage_of(const Definition& definition,
                                                  const Binding& binding) const {
    if (engine_ == nullptr) return Needs{}.profile;
    const auto stage = engine_->stages.find(binding.id);
    if (stage == engine_->stages.end())
      return tl::unexpected(Unreachable{
          &definition, fmt::format("no recipe makes {} call {}", options_.engine, binding.function),
          "--launch-command with an engine that calls " + binding.function});
    if (auto why = obstacle(definition, stage->second, options_))
      return tl::unexpected(std::move(*why));
    return stage->second.profile;
  }

  tl::expected<Needs, Unreachable> needs_of(const Definition& definition,
                                            const std::string& profile) const {
    Needs needs{.profile = profile};
    if (engine_ != nullptr) needs.page_size = page_size_of(definition);

    // The model, and how many GPUs it is spread over.
    if (!has_own_model_) needs.model = model_for(definition, recipes_);
    needs.recipe = find_model(recipes_, needs.model);
    if (!has_own_model_ && needs.recipe == nullptr)
      return tl::unexpected(
          Unreachable{&definition, "no recipe names a model that calls it", "--model-name"});
    if (!has_own_model_ && engine_->is_simulated && needs.recipe->config.is_null())
      return tl::unexpected(Unreachable{
          &definition,
          fmt::format("the simulated engine does not know the shapes of {}", needs.model),
          "--model-name with a folder that holds the model's config.json"});
    needs.tensor_parallel = options_.tensor_parallel > 0
                                ? options_.tensor_parallel
                                : tensor_parallel_for(definition, needs.recipe);
    return needs;
  }

  EngineRun& run_for(const Needs& needs) {
    const auto known = std::ranges::find_if(plan_.runs, [&](const EngineRun& run) {
      return run.profile == needs.profile && run.model == needs.model &&
             run.tensor_parallel == needs.tensor_parallel &&
             (run.page_size == needs.page_size || !names_page_size_);
    });
    return known != plan_.runs.end() ? *known : plan_.runs.emplace_back(new_run(needs));
  }

  EngineRun new_run(const Needs& needs) const {
    EngineRun run{.profile = needs.profile,
                  .model = needs.model,
                  .tensor_parallel = needs.tensor_parallel,
                  .page_size = needs.page_size};
    run.model_path = has_own_model_ ? options_.model_name : needs.recipe->path;
    if (needs.recipe != nullptr) run.model_config = needs.recipe->config;
    const std::map<std::string, std::string> values{{"python", options_.python},
                                                    {"self", options_.self},
                                                    {"model", run.model_path},
                                                    {"page_size", std::to_string(run.page_size)},
                                                    {"tp", std::to_string(run.tensor_parallel)}};
    if (engine_ == nullptr) {
      run.command.arguments = fill_in(options_.launch_command, values);
      run.command.environment = options_.launch_environment;
      return run;
    }

    // Flags of the engine, then of the capture method, then of the profile.
    const Profile& profile = engine_->profiles.at(needs.profile);
    run.command.arguments = fill_in(engine_->command, values);
    run.command.environment = profile.environment;
    run.flags = engine_->flags;
    if (const auto more = engine_->method_flags.find(options_.capture->name());
        more != engine_->method_flags.end())
      run.flags.insert(run.flags.end(), more->second.begin(), more->second.end());
    run.flags.insert(run.flags.end(), profile.flags.begin(), profile.flags.end());
    for (FlagChoice& choice : run.flags)
      for (auto& alternative : choice.alternatives) alternative = fill_in(alternative, values);
    return run;
  }

  const BindingSet& bindings_;
  const Recipes& recipes_;
  const EnginePlanOptions& options_;
  const EngineRecipe* engine_;
  const bool names_page_size_, has_own_model_;
  EnginePlan plan_;
};

}  // namespace

std::vector<std::string> fill_in(std::vector<std::string> words,
                                 const std::map<std::string, std::string>& values) {
  for (std::string& word : words)
    for (const auto& [name, value] : values) {
      const std::string mark = "{" + name + "}";
      for (std::size_t at = word.find(mark); at != std::string::npos;
           at = word.find(mark, at + value.size()))
        word.replace(at, mark.size(), value);
    }
  return words;
}

std::set<std::string> flags_in_help(std::string_view help) {
  static constexpr std::string_view letters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  std::set<std::string> flags;
  for (std::size_t at = help.find("--"); at != std::string_view::npos; at = help.find("--", at)) {
    const std::size_t end = std::min(help.find_first_not_of(letters, at), help.size());
    if (end > at + 2) flags.emplace(help.substr(at, end - at));
    at = end;
  }
  return flags;
}

FittedFlags fit_flags(const std::vector<FlagChoice>& choices, const std::set<std::string>& known,
                      const std::vector<std::string>& given) {
  FittedFlags fitted;
  const auto is_given = [&given](const std::string& flag) {
    return std::ranges::any_of(given, [&flag](const std::string& word) {
      return word == flag || word.starts_with(flag + "=");
    });
  };

  for (const FlagChoice& choice : choices) {
    if (std::ranges::any_of(choice.alternatives,
                            [&](const auto& alternative) { return is_given(alternative[0]); }))
      continue;

    // The first alternative that the installed version knows.
    const auto found = std::ranges::find_if(choice.alternatives, [&](const auto& alternative) {
      return known.empty() || known.contains(alternative[0]);
    });
    const std::string first = fmt::format("{}", fmt::join(choice.alternatives[0], " "));
    if (found == choice.alternatives.end()) {
      fitted.notes.push_back(first + ": not known to the installed version, dropped");
      continue;
    }

    if (found != choice.alternatives.begin())
      fitted.notes.push_back(fmt::format("{}: not known to the installed version, {} instead",
                                         first, fmt::join(*found, " ")));
    fitted.words.insert(fitted.words.end(), found->begin(), found->end());
  }
  return fitted;
}

Result<EnginePlan> plan_runs(const std::vector<const Definition*>& definitions,
                             const BindingSet& bindings, const Recipes& recipes,
                             const EnginePlanOptions& options) {
  const auto engine = recipes.engines.find(options.engine);
  if (engine == recipes.engines.end() && options.launch_command.empty()) {
    std::vector<std::string> names;
    for (const auto& [name, recipe] : recipes.engines) names.push_back(name);
    return fail("engine_unknown", "no engine is called {}; known are {}", options.engine,
                fmt::join(names, ", "));
  }

  // It goes where options go: no command may take it for one.
  if (options.model_name.starts_with('-'))
    return fail("model_unknown", "'{}' is not a model", options.model_name);

  RunPlanner planner(bindings, recipes, options,
                     options.launch_command.empty() ? &engine->second : nullptr);
  for (const Definition* definition : definitions) planner.add(*definition);
  return planner.take();
}

}  // namespace cw
