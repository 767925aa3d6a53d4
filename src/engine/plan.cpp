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

// The op type's usual model if the definition is of it or names no model that is known; else the
// first it names.
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

// Why a stage cannot be had; nothing when it can, as far as is known.
std::optional<Unreachable> obstacle(const Definition& definition, const Stage& stage,
                                    const EnginePlanOptions& options) {
  if (stage.profile.empty()) return Unreachable{&definition, stage.unreachable, stage.reach};
  if (!stage.only_method.empty() && stage.only_method != options.capture->name())
    return Unreachable{&definition, stage.unreachable, stage.reach};
  if (stage.page_size && *stage.page_size != page_size_of(definition))
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
  if (std::find(list.begin(), list.end(), binding) == list.end()) list.push_back(binding);
}

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
    return std::any_of(given.begin(), given.end(), [&flag](const std::string& word) {
      return word == flag || word.starts_with(flag + "=");
    });
  };

  for (const FlagChoice& choice : choices) {
    if (std::any_of(choice.alternatives.begin(), choice.alternatives.end(),
                    [&](const auto& alternative) { return is_given(alternative[0]); }))
      continue;

    // The first alternative that the installed version knows.
    const auto found = std::find_if(
        choice.alternatives.begin(), choice.alternatives.end(),
        [&](const auto& alternative) { return known.empty() || known.contains(alternative[0]); });
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
    return fail("engine_unknown", "no engine is called {}; there are {}", options.engine,
                fmt::join(names, ", "));
  }

  // It stands where options do: no command may take it for one.
  if (options.model_name.starts_with('-'))
    return fail("model_unknown", "'{}' is no model", options.model_name);
  const bool names_page_size =
      options.launch_command.empty() && mentions(engine->second.flags, "{page_size}");
  EnginePlan plan;
  for (const Definition* definition : definitions) {
    const auto binding = bindings.find(*definition);
    if (!binding || !(*binding)->unbindable.empty()) {
      plan.unreachable.push_back(
          {definition, binding ? (*binding)->unbindable : binding.error().message, ""});
      continue;
    }
    std::string profile = "command";
    std::int64_t page_size = 1;
    if (options.launch_command.empty()) {
      const auto stage = engine->second.stages.find((*binding)->id);
      if (stage == engine->second.stages.end()) {
        plan.unreachable.push_back(
            {definition, fmt::format("no recipe brings {} to it", options.engine),
             "--launch-command with an engine that calls " + (*binding)->function});
        continue;
      }
      if (auto why = obstacle(*definition, stage->second, options)) {
        plan.unreachable.push_back(std::move(*why));
        continue;
      }
      profile = stage->second.profile;
      page_size = page_size_of(*definition);
    }
    const bool has_own_model = !options.model_name.empty() || !options.launch_command.empty();
    const std::string model = has_own_model ? "" : model_for(*definition, recipes);
    const ModelRecipe* recipe = find_model(recipes, model);
    if (!has_own_model && recipe == nullptr) {
      plan.unreachable.push_back({definition, "no recipe names a model for it", "--model-name"});
      continue;
    }
    const bool needs_config = options.launch_command.empty() && engine->second.is_simulated;
    if (needs_config && !has_own_model && recipe->config.is_null()) {
      plan.unreachable.push_back(
          {definition, fmt::format("the simulated engine does not know the shapes of {}", model),
           "--model-name with a folder that holds the model's config.json"});
      continue;
    }
    const int tensor_parallel = options.tensor_parallel > 0
                                    ? options.tensor_parallel
                                    : tensor_parallel_for(*definition, recipe);
    auto run = std::find_if(plan.runs.begin(), plan.runs.end(), [&](const EngineRun& known) {
      return known.profile == profile && known.model == model &&
             known.tensor_parallel == tensor_parallel &&
             (known.page_size == page_size || !names_page_size);
    });
    if (run == plan.runs.end()) {
      EngineRun added{.profile = profile,
                      .model = model,
                      .tensor_parallel = tensor_parallel,
                      .page_size = page_size};
      added.model_path = has_own_model ? options.model_name : recipe->path;
      if (recipe != nullptr) added.model_config = recipe->config;
      const std::map<std::string, std::string> values{{"python", options.python},
                                                      {"self", options.self},
                                                      {"model", added.model_path},
                                                      {"page_size", std::to_string(page_size)},
                                                      {"tp", std::to_string(tensor_parallel)}};
      if (options.launch_command.empty()) {
        const Profile& with = engine->second.profiles.at(profile);
        added.command.arguments = fill_in(engine->second.command, values);
        added.command.environment = with.environment;
        added.flags = engine->second.flags;
        if (const auto more = engine->second.method_flags.find(options.capture->name());
            more != engine->second.method_flags.end())
          added.flags.insert(added.flags.end(), more->second.begin(), more->second.end());
        added.flags.insert(added.flags.end(), with.flags.begin(), with.flags.end());
        for (FlagChoice& choice : added.flags)
          for (auto& alternative : choice.alternatives) alternative = fill_in(alternative, values);
      } else {
        added.command.arguments = fill_in(options.launch_command, values);
        added.command.environment = options.launch_environment;
      }
      run = plan.runs.insert(plan.runs.end(), std::move(added));
    }
    run->definitions.push_back(definition);
    add_unique(run->bindings, *binding);
  }
  return plan;
}

}  // namespace cw
