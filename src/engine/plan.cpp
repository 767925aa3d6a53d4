#include "engine/plan.h"

#include <algorithm>
#include <charconv>
#include <deque>
#include <limits>

#include <fmt/ranges.h>

namespace cw {
namespace {

// Of a GPU's memory, the part that weights may take: the rest is for the KV pool and activations.
constexpr double share_of_weights = 0.9;
constexpr double largest_gpu = 288e9;  ///< NVIDIA B300

const ModelRecipe* find_model(const Recipes& recipes, const std::string& name) {
  const auto found = recipes.models.find(name);
  return found == recipes.models.end() ? nullptr : &found->second;
}

// Models that a definition may be collected from, the best first: the op type's usual one if the
// definition names it, others that it names, or the usual one if it names none that is known.
std::vector<std::string> models_for(const Definition& definition, const Recipes& recipes) {
  const auto usual = recipes.op_types.find(definition.op_type);
  std::vector<std::string> models;
  for (const std::string_view tag : definition.tag_values("model")) {
    if (find_model(recipes, std::string(tag)) == nullptr) continue;
    const bool is_usual = usual != recipes.op_types.end() && usual->second == tag;
    models.insert(is_usual ? models.begin() : models.end(), std::string(tag));
  }
  if (models.empty() && usual != recipes.op_types.end()) models.push_back(usual->second);
  return models;
}

void add_unique(std::vector<int>& list, int value) {
  if (value > 0 && std::ranges::find(list, value) == list.end()) list.push_back(value);
}

std::vector<int> numbers_of(const Definition& definition, const char* tag) {
  std::vector<int> numbers;
  for (const std::string_view text : definition.tag_values(tag)) {
    int value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    add_unique(numbers, value);
  }
  return numbers;
}

// How a model may be spread for a definition: as its tags say, as is usual for the model, and else
// in any way.
std::vector<Parallelism> ways_to_spread(const Definition& definition, int usual, int given) {
  std::vector<int> tensor{given}, expert{1};
  if (given == 0) {
    tensor = numbers_of(definition, "tp");
    for (const int other : {usual, 1, 2, 4, 8, 16}) add_unique(tensor, other);
  }
  // Definitions that tell the experts of a group from all of them; others have all.
  if (definition.axis("num_experts") != nullptr &&
      definition.axis("num_local_experts") != nullptr) {
    expert = numbers_of(definition, "ep");
    for (const int other : {1, 2, 4, 8}) add_unique(expert, other);
  }
  std::vector<Parallelism> ways;
  for (const int ep : expert)
    for (const int tp : tensor)
      // A group of experts has GPUs of its own.
      if (const int all = given == 0 ? std::max(tp, ep) : tp; all % ep == 0)
        ways.push_back({.tensor = all, .expert = ep});
  return ways;
}

std::string spread_text(const Parallelism& spread) {
  return fmt::format("tp {}{}", spread.tensor,
                     spread.expert > 1 ? fmt::format(", ep {}", spread.expert) : "");
}

// Nothing: it has no pages, or any.
std::optional<std::int64_t> page_size_of(const Definition& definition) {
  const Axis* axis = definition.axis("page_size");
  return axis != nullptr ? axis->constant : std::nullopt;
}

// Why a stage is unreachable; nothing if it is reachable, as far as is known.
std::optional<Unreachable> obstacle(const Definition& definition, const Stage& stage,
                                    const EnginePlanOptions& options) {
  if (stage.profile.empty()) return Unreachable{&definition, stage.unreachable, stage.reach};
  if (!stage.only_method.empty() && stage.only_method != options.capture->name())
    return Unreachable{&definition, stage.unreachable, stage.reach};
  if (!stage.page_sizes.empty() &&
      std::ranges::find(stage.page_sizes, page_size_of(definition).value_or(1)) ==
          stage.page_sizes.end())
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
  // A model, and what is known of it.
  struct ChosenModel {
    std::string name;  // in the recipes; empty: the user's
    std::string path;
    Json config = nullptr;
    int usual_tensor_parallel = 0;  // 0: not known
  };

  /// Without an engine, everything is reached by the options' launch command.
  RunPlanner(const std::vector<const Definition*>& definitions, const BindingSet& bindings,
             const Recipes& recipes, const EnginePlanOptions& options, const EngineRecipe* engine)
      : bindings_(bindings),
        recipes_(recipes),
        options_(options),
        engine_(engine),
        names_page_size_(engine != nullptr && mentions(engine->flags, "{page_size}")),
        has_own_model_(!options.model_name.empty() || engine == nullptr),
        own_model_(has_own_model_ ? read_own_model() : ChosenModel{}),
        own_spread_(choose_spread(definitions)) {
    for (const Definition* definition : definitions) add(*definition);
  }

  EnginePlan take() {
    share_out();
    for (Group& group : groups_) {
      std::ranges::sort(group.requests, {}, &Request::place);
      EngineRun run = new_run(group);
      for (const Request* request : group.requests) {
        run.definitions.push_back(request->definition);
        for (const Binding* binding : request->bindings) add_unique(run.bindings, binding);
        run.compute_capability = std::max(run.compute_capability, capability_of(*request));
      }
      plan_.runs.push_back(std::move(run));
    }
    return std::move(plan_);
  }

 private:
  // What a definition needs of a run.
  struct Needs {
    std::string profile = "command";
    ChosenModel model;
    std::optional<std::int64_t> page_size;
    Parallelism spread;
  };
  struct Request {
    std::size_t place;
    const Definition* definition;
    Needs needs;
    std::vector<const Binding*> bindings;
  };
  // What shares a run: one model, and profiles of which none hides what another one is for.
  struct Group {
    Needs needs;                        // of the first one
    std::vector<std::string> profiles;  // beside those that change nothing
    std::vector<const Request*> requests;
  };

  void add(const Definition& definition) {
    // What the user's model never calls is no matter of bindings or the engine's.
    auto needs = needs_of(definition);
    if (!needs && needs.error().is_of_others) return give_up(std::move(needs.error()));

    const auto serving = bindings_.serving(definition);
    if (!serving) return give_up({&definition, serving.error().message, ""});
    if (!serving->front()->unbindable.empty())
      return give_up({&definition, serving->front()->unbindable, ""});

    // The first API that the engine calls, and all others that it may call in the same run.
    std::optional<Unreachable> why;
    bool has_stage = false;  // what a stage says is wrong says more than that there is none
    std::optional<Request> request;
    for (const Binding* binding : *serving) {
      const auto stage = profile_of(definition, *binding);
      if (!stage) {
        const bool is_first = !has_stage && engine_->stages.contains(binding->id);
        if (!why || is_first) why = stage.error();
        has_stage = has_stage || is_first;
        continue;
      }
      if (!request) {
        if (!needs) return give_up(std::move(needs.error()));
        needs->profile = *stage;
        request = Request{.place = requests_.size(), .definition = &definition, .needs = *needs};
      }
      if (*stage == request->needs.profile) request->bindings.push_back(binding);
    }
    if (request) return requests_.push_back(std::move(*request));
    give_up(std::move(*why));
  }

  // Of the GPU, for the API of those that give the definition that needs least; 0: any.
  int capability_of(const Request& request) const {
    if (engine_ == nullptr) return 0;
    int least = std::numeric_limits<int>::max();
    for (const Binding* binding : request.bindings)
      least = std::min(least, engine_->stages.at(binding->id).compute_capability.value_or(0));
    return least;
  }

  void give_up(Unreachable why) { plan_.unreachable.push_back(std::move(why)); }

  // The profile with which the engine calls a binding's API.
  tl::expected<std::string, Unreachable> profile_of(const Definition& definition,
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

  // All but the profile.
  tl::expected<Needs, Unreachable> needs_of(const Definition& definition) const {
    Needs needs;
    if (engine_ != nullptr) needs.page_size = page_size_of(definition);
    if (engine_ == nullptr) {
      needs.spread.tensor = std::max(options_.tensor_parallel, 1);
      needs.model = own_model_;
      return needs;
    }

    std::vector<ChosenModel> models;
    if (has_own_model_)
      models.push_back(own_model_);
    else
      for (const std::string& name : models_for(definition, recipes_))
        models.push_back(known_model(name, definition));
    if (models.empty())
      return tl::unexpected(
          Unreachable{&definition, "no recipe names a model that calls it", "--model-name"});

    // The first that calls it, spread in a way that this machine has room for.
    std::optional<Obstacle> nearest;
    for (const ChosenModel& model : models)
      for (const Parallelism& spread :
           ways_to_spread(definition, model.usual_tensor_parallel, own_spread_)) {
        auto obstacle = obstacle_of(definition, model, spread);
        if (!obstacle) {
          needs.model = model;
          needs.spread = spread;
          return needs;
        }
        if (!nearest || obstacle->kind > nearest->kind) nearest = std::move(obstacle);
      }
    return tl::unexpected(Unreachable{
        .definition = &definition,
        .why = nearest->why,
        .reach = nearest->reach.empty() ? who_calls(definition) : std::move(nearest->reach),
        .is_of_others = has_own_model_ && nearest->kind == Obstacle::Kind::shape});
  }

  // Over how many GPUs the user wants it; 0: as each definition needs it. All that a model calls is
  // taken in one way of spreading it: that which reaches most op types, then most definitions, the
  // usual one if several do.
  int choose_spread(const std::vector<const Definition*>& definitions) const {
    if (options_.tensor_parallel > 0 || !options_.takes_all || !has_own_model_ ||
        engine_ == nullptr)
      return options_.tensor_parallel;
    constexpr int most = 64, usually_most = 16;
    const double weights = weight_bytes(own_model_.config).value_or(0);
    const int usual = own_model_.usual_tensor_parallel;
    int fewest = 1;
    while (fewest < most && weights / fewest > share_of_weights * gpu_memory()) fewest *= 2;

    std::vector<int> spreads;
    if (usual >= fewest) spreads.push_back(usual);
    for (int i = fewest; i <= (options_.gpus > 0 ? options_.gpus : usually_most); i *= 2)
      add_unique(spreads, i);
    int best = fewest;
    std::pair<std::size_t, std::size_t> most_reached;
    for (const int spread : spreads) {
      std::set<std::string> op_types;
      std::size_t count = 0;
      for (const Definition* definition : definitions) {
        if (!is_reached(*definition, {.tensor = spread})) continue;
        op_types.insert(definition->op_type);
        ++count;
      }
      if (std::pair(op_types.size(), count) <= most_reached) continue;
      most_reached = {op_types.size(), count};
      best = spread;
    }
    return best;
  }

  // Whether the user's model calls it, spread in a way, by an API that the engine brings it to.
  bool is_reached(const Definition& definition, const Parallelism& spread) const {
    const auto serving = bindings_.serving(definition);
    return serving && serving->front()->unbindable.empty() &&
           std::ranges::any_of(*serving,
                               [&](const Binding* binding) {
                                 return profile_of(definition, *binding).has_value();
                               }) &&
           !obstacle_of(definition, own_model_, spread);
  }

  // Bytes of a GPU of this machine; of the largest there is if that is unknown.
  double gpu_memory() const { return options_.gpu_memory > 0 ? options_.gpu_memory : largest_gpu; }

  // The user's, with what is known of it: its config.json is read.
  ChosenModel read_own_model() const {
    ChosenModel model{.name = "", .path = options_.model_name};
    const ModelRecipe* known = find_model(recipes_, options_.model_name);
    if (known == nullptr)
      for (const auto& [name, recipe] : recipes_.models)
        if (recipe.path == options_.model_name) known = &recipe;
    if (known != nullptr && !(engine_ != nullptr && engine_->is_simulated))
      model.path = known->path;
    model.config = find_model_config(model.path);
    if (model.config.is_null() && known != nullptr) model.config = known->config;
    if (known != nullptr) model.usual_tensor_parallel = known->tensor_parallel;
    return model;
  }

  // One of the recipes', with weights of the type that the definition asks for.
  ChosenModel known_model(const std::string& name, const Definition& definition) const {
    const ModelRecipe& recipe = recipes_.models.at(name);
    ChosenModel model{.name = name,
                      .path = recipe.path,
                      .config = recipe.config,
                      .usual_tensor_parallel = recipe.tensor_parallel};
    for (const auto& [type, path] : recipe.quantized) {
      if (!asks_for(definition, type)) continue;
      model.path = path;
      if (model.config.is_object()) model.config["quantization_config"] = {{"quant_method", type}};
    }
    return model;
  }

  static bool asks_for(const Definition& definition, const std::string& type) {
    return std::ranges::any_of(definition.tag_values("quantization"),
                               [&type](std::string_view tag) { return tag.starts_with(type); });
  }

  // Why a model, spread in a way, does not call a definition, or not here.
  struct Obstacle {
    enum class Kind { unknown, shape, weights, memory, gpus };  // the last ones come closest
    Kind kind;
    std::string why, reach;  // what would help; empty: another model
  };
  std::optional<Obstacle> obstacle_of(const Definition& definition, const ChosenModel& model,
                                      const Parallelism& spread) const {
    using Kind = Obstacle::Kind;
    if (engine_->is_simulated && !model.name.empty() &&
        (model.config.is_null() || is_hybrid(model.config)))
      return Obstacle{
          Kind::unknown,
          fmt::format("the simulated engine does not know the shapes of {}", model.name),
          "--model-name with a folder that holds the model's config.json"};
    const std::string who =
        fmt::format("{}, {}", model.name.empty() ? model.path : model.name, spread_text(spread));
    if (const auto mismatch = shape_mismatch(definition, model.config, spread, recipes_.shapes))
      return Obstacle{
          Kind::shape,
          mismatch->axis.empty()
              ? fmt::format("{} has no layers that call {}",
                            model.name.empty() ? model.path : model.name, definition.op_type)
              : fmt::format("{}: {} is {}, and {} in the definition", who, mismatch->axis,
                            mismatch->called, mismatch->wanted),
          ""};
    if (engine_->is_simulated) return {};

    // Of which type its weights are, and whether there is room for them.
    const auto quantization = definition.tag_values("quantization");
    if (const std::string has = quantization_of(model.config);
        !quantization.empty() && model.config.is_object() &&
        (has.empty() || !asks_for(definition, has)))
      return Obstacle{Kind::weights,
                      fmt::format("it needs weights in {}, and those of {} are in {}",
                                  quantization[0], model.path, has.empty() ? "bfloat16" : has),
                      fmt::format("--model-name with such weights of {}", model.path)};
    const auto weights = weight_bytes(model.config);
    if (weights && options_.tensor_parallel == 0 &&
        *weights / spread.tensor > share_of_weights * gpu_memory())
      return Obstacle{Kind::memory,
                      fmt::format("{}: its weights take about {:.0f} GB on each GPU, {}", who,
                                  *weights / spread.tensor / 1e9,
                                  options_.gpu_memory > 0
                                      ? fmt::format("which has {:.0f} GB", gpu_memory() / 1e9)
                                      : "which none has"),
                      "GPUs with more memory"};
    if (options_.gpus > 0 && spread.tensor > options_.gpus && options_.tensor_parallel == 0)
      return Obstacle{
          Kind::gpus,
          fmt::format("{}: it needs {} GPUs, and here {}", who, spread.tensor,
                      options_.gpus == 1 ? "is one" : fmt::format("are {}", options_.gpus)),
          fmt::format("a machine with {} GPUs", spread.tensor)};
    return {};
  }

  // A known model that calls a definition, as flags; the smallest one.
  std::string who_calls(const Definition& definition) const {
    std::string found;
    double fewest = 0;
    for (const auto& [name, recipe] : recipes_.models) {
      if (recipe.config.is_null()) continue;
      const ChosenModel model = known_model(name, definition);
      const double weights = weight_bytes(model.config).value_or(0);
      if (!found.empty() && weights >= fewest) continue;
      for (const Parallelism& spread : ways_to_spread(definition, recipe.tensor_parallel, 0)) {
        if (!recipes_.shapes.contains(definition.op_type) ||
            shape_mismatch(definition, model.config, spread, recipes_.shapes) ||
            weights / spread.tensor > share_of_weights * largest_gpu)
          continue;
        found = fmt::format("--model-name {} --tp {}", model.path, spread.tensor);
        fewest = weights;
        break;
      }
    }
    return found.empty() ? "--model-name with a model that has these shapes" : found;
  }

  // Starting an engine takes minutes, so a definition joins a run that reaches it anyway. First
  // those that need a profile of their own, then those that no such run reaches, then all others,
  // which keep to the engine's usual ways where there is such a run.
  void share_out() {
    std::vector<const Request*> usual, others;
    for (const Request& request : requests_)
      if (is_plain(request.needs.profile))
        usual.push_back(&request);
      else
        place(request);
    for (const Request* request : usual)
      if (find_group(*request) == nullptr)
        place(*request);
      else
        others.push_back(request);
    for (const Request* request : others) place(*request);

    std::ranges::stable_sort(groups_, {}, [](const Group& group) {
      return std::ranges::min(group.requests, {}, &Request::place)->place;
    });
  }

  void place(const Request& request) {
    Group* group = find_group(request);
    if (group == nullptr) group = &groups_.emplace_back(Group{request.needs, {}, {}});
    const std::string& profile = request.needs.profile;
    if (!is_plain(profile) && std::ranges::find(group->profiles, profile) == group->profiles.end())
      group->profiles.push_back(profile);
    if (!group->needs.page_size) group->needs.page_size = request.needs.page_size;
    group->requests.push_back(&request);
  }

  // The one with the fewest profiles that reaches it; null if there is none.
  Group* find_group(const Request& request) {
    Group* best = nullptr;
    for (Group& group : groups_)
      if (can_join(request, group) &&
          (best == nullptr || group.profiles.size() < best->profiles.size()))
        best = &group;
    return best;
  }

  bool is_plain(const std::string& profile) const {
    if (engine_ == nullptr) return true;
    const Profile& known = engine_->profiles.at(profile);
    return known.flags.empty() && known.environment.empty();
  }

  bool can_join(const Request& request, const Group& group) const {
    const Needs &a = request.needs, &b = group.needs;
    if (a.model.path != b.model.path || a.spread != b.spread ||
        (a.page_size && b.page_size && *a.page_size != *b.page_size && names_page_size_))
      return false;
    if (engine_ == nullptr) return true;

    // Whether every profile leaves all of them reachable, and no two set the same variable.
    std::vector<std::string> profiles = group.profiles;
    if (!is_plain(a.profile) && std::ranges::find(profiles, a.profile) == profiles.end())
      profiles.push_back(a.profile);
    std::vector<const Request*> requests = group.requests;
    requests.push_back(&request);
    std::set<std::string> variables;
    for (const std::string& name : profiles) {
      const Profile& profile = engine_->profiles.at(name);
      for (const Request* other : requests)
        for (const Binding* binding : other->bindings)
          if (profile.hides(binding->id)) return false;
      for (const auto& [variable, value] : profile.environment)
        if (!variables.insert(variable).second) return false;
    }
    return true;
  }

  EngineRun new_run(const Group& group) const {
    const Needs& needs = group.needs;
    EngineRun run{.profile = group.profiles.empty()
                                 ? group.requests.front()->needs.profile
                                 : fmt::format("{}", fmt::join(group.profiles, "+")),
                  .model = needs.model.name,
                  .model_path = needs.model.path,
                  .tensor_parallel = needs.spread.tensor,
                  .expert_parallel = needs.spread.expert,
                  .page_size = needs.page_size,
                  .weight_bytes = weight_bytes(needs.model.config),
                  .kv_bytes = kv_bytes_per_token(needs.model.config, needs.spread.tensor)};
    const std::map<std::string, std::string> values{
        {"python", options_.python},
        {"self", options_.self},
        {"model", run.model_path},
        {"page_size", std::to_string(run.page_size.value_or(1))},
        {"tp", std::to_string(run.tensor_parallel)},
        {"ep", std::to_string(run.expert_parallel)}};
    if (engine_ == nullptr) {
      run.command.arguments = fill_in(options_.launch_command, values);
      run.command.environment = options_.launch_environment;
      return run;
    }

    // Flags of the engine, then of the capture method, then of the profiles.
    std::vector<std::string> words = engine_->command;
    if (run.expert_parallel > 1)
      words.insert(words.end(), engine_->expert_parallel.begin(), engine_->expert_parallel.end());
    run.command.arguments = fill_in(std::move(words), values);
    run.flags = engine_->flags;
    if (const auto more = engine_->method_flags.find(options_.capture->name());
        more != engine_->method_flags.end())
      run.flags.insert(run.flags.end(), more->second.begin(), more->second.end());
    for (const std::string& name : group.profiles) {
      const Profile& profile = engine_->profiles.at(name);
      run.flags.insert(run.flags.end(), profile.flags.begin(), profile.flags.end());
      run.command.environment.insert(run.command.environment.end(), profile.environment.begin(),
                                     profile.environment.end());
    }
    if (!run.page_size)  // the engine's own will do
      std::erase_if(run.flags,
                    [](const FlagChoice& flag) { return mentions({flag}, "{page_size}"); });
    for (FlagChoice& choice : run.flags)
      for (auto& alternative : choice.alternatives) alternative = fill_in(alternative, values);
    return run;
  }

  const BindingSet& bindings_;
  const Recipes& recipes_;
  const EnginePlanOptions& options_;
  const EngineRecipe* engine_;
  const bool names_page_size_, has_own_model_;
  const ChosenModel own_model_;
  const int own_spread_;  // 0: as each definition needs it
  std::deque<Request> requests_;
  std::deque<Group> groups_;
  EnginePlan plan_;
};

}  // namespace

std::vector<std::string> fill_in(std::vector<std::string> words,
                                 const std::map<std::string, std::string>& values) {
  for (std::string& word : words) {
    // From left to right, so that nothing is replaced in what has been put in.
    std::string filled;
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t end = word[at] == '{' ? word.find('}', at) : std::string::npos;
      const auto value =
          end == std::string::npos ? values.end() : values.find(word.substr(at + 1, end - at - 1));
      filled += value == values.end() ? word.substr(at, 1) : value->second;
      at = value == values.end() ? at + 1 : end + 1;
    }
    word = std::move(filled);
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

  RunPlanner planner(definitions, bindings, recipes, options,
                     options.launch_command.empty() ? &engine->second : nullptr);
  return planner.take();
}

}  // namespace cw
