#include "engine/doctor.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include <fmt/ranges.h>

#include "base/process.h"
#include "base/yaml.h"

namespace cw {
namespace {

constexpr std::chrono::seconds limit{60}, limit_of_rules{10};

// The distribution that a module belongs to.
std::string distribution_of(std::string_view module) {
  const std::string package(module.substr(0, module.find('.')));
  return package == "flashinfer" ? flashinfer_package : package;
}

// "0.5.23.post1" -> {0, 5, 23}: enough to tell releases apart.
std::vector<int> numbers_of(std::string_view version) {
  std::vector<int> numbers;
  while (!version.empty()) {
    int number = 0;
    const auto parsed = std::from_chars(version.data(), version.data() + version.size(), number);
    if (parsed.ec != std::errc()) break;
    numbers.push_back(number);
    version.remove_prefix(static_cast<std::size_t>(parsed.ptr - version.data()));
    if (!version.starts_with('.')) break;
    version.remove_prefix(1);
  }
  return numbers;
}

// Functions of FlashInfer's that bindings read. What the recorder's rules name is not among them.
std::set<std::string> apis_of(const BindingSet& bindings, const Json& rules) {
  std::set<std::string> apis;
  for (const Binding& binding : bindings.bindings())
    for (const std::string& name : {binding.function, binding.plan_function, binding.init_function})
      if (!name.empty()) apis.insert(name);
  for (const Json& rule : rules.at("functions"))
    if (const std::string as = string_member(rule, "as"); as.find('.') == std::string::npos)
      apis.erase(as);
  return apis;
}

// Why no call of the installed functions has what a binding needs.
std::string why_not(const Binding& binding, const Json& apis) {
  for (const InputBinding& input : binding.inputs) {
    const std::size_t dot = input.from.find('.');
    const bool is_lacking = std::ranges::find(binding.lacks, input.name) != binding.lacks.end();
    if (dot == std::string::npos || is_lacking) continue;
    const std::string role = input.from.substr(0, dot), parameter = input.from.substr(dot + 1);
    const std::string& function = role == "call"   ? binding.function
                                  : role == "plan" ? binding.plan_function
                                                   : binding.init_function;
    const auto api = apis.find(function);
    if (api == apis.end()) continue;
    if (api->is_null()) return fmt::format("there is no {}", function);
    if (!bool_member(*api, "is_decorated"))
      return fmt::format("{} is not part of the API that is recorded", function);
    const Json parameters = api->value("parameters", Json::array());
    const auto has = [&parameters](std::string_view name) {
      return std::ranges::find(parameters, Json(std::string(name))) != parameters.end();
    };
    if (!has(parameter) && !has("*") && !has("**"))
      return fmt::format("{} has no parameter {}", function, parameter);
  }
  return {};
}

// What the script found. Throws Json::exception if it is not an answer of the script's.
Diagnosis to_diagnosis(const Json& answer, const Json& config, const BindingSet& bindings) {
  Diagnosis diagnosis{.python = string_member(answer, "python"),
                      .executable = string_member(answer, "executable")};
  for (const auto& [name, version] : answer.at("packages").items()) {
    PackageCheck check{.name = name, .version = version.is_string() ? version : Json("")};
    const auto tried = config.at("tried").find(name);
    check.is_tried = tried != config.at("tried").end() &&
                     std::ranges::find(*tried, Json(check.version)) != tried->end();
    diagnosis.packages.push_back(std::move(check));
  }
  for (const Json& rule : answer.at("rules")) {
    RuleCheck check{.kind = string_member(rule, "kind"),
                    .module = string_member(rule, "module"),
                    .name = string_member(rule, "name"),
                    .package = distribution_of(string_member(rule, "module")),
                    .missing = string_member(rule, "missing")};
    const PackageCheck* const package = diagnosis.package(check.package);
    if (package == nullptr || package->version.empty()) continue;
    if (const std::string since = string_member(rule, "since");
        !since.empty() && numbers_of(package->version) < numbers_of(since))
      continue;
    diagnosis.rules.push_back(std::move(check));
  }
  const Json& apis = answer.at("apis");
  for (const Binding& binding : bindings.bindings())
    if (binding.unbindable.empty())
      diagnosis.bindings.push_back({&binding, why_not(binding, apis)});
  return diagnosis;
}

// The rules as JSON. Error code "rules_invalid".
Result<Json> parse_rules(const std::string& rules) {
  try {
    Json config = to_json(YAML::Load(rules));
    for (const char* name : {"decorators", "functions", "scopes", "batches", "tried"})
      if (!config.contains(name))
        return fail("rules_invalid", "the recorder's rules have no `{}`", name);
    return config;
  } catch (const YAML::Exception& error) {
    return fail("rules_invalid", "the recorder's rules: {}", error.what());
  }
}

// The Python itself is asked: its path is its own affair.
Result<Diagnosis> ask(Command command, const Json& config, const BindingSet& bindings,
                      std::chrono::seconds patience) {
  const std::string python = command.arguments[0];
  Json asked = {{"apis", apis_of(bindings, config)}, {"packages", {"torch"}}};
  for (const char* name : {"decorators", "functions", "scopes", "batches"})
    asked[name] = config.at(name);
  for (const auto& [name, versions] : config.at("tried").items()) asked["packages"].push_back(name);
  for (const std::string& word :
       {std::string("-c"), std::string(built_in_doctor_script()), dump(asked)})
    command.arguments.push_back(word);
  const auto output = run(command, patience);
  if (!output && output.error().code == "interrupted") return tl::unexpected(output.error());
  const auto answer = output ? parse_json(*output) : std::nullopt;
  if (!answer || !answer->is_object())
    return fail("python_unusable", "{} cannot be asked what is installed: {}", python,
                output ? "its answer is no JSON" : output.error().message);

  try {
    return to_diagnosis(*answer, config, bindings);
  } catch (const Json::exception& error) {
    return fail("python_unusable", "{} gave an answer of another kind: {}", python, error.what());
  }
}

// What a rule names is not there.
std::string what_is_missing(const RuleCheck& rule) {
  if (rule.missing == "package") return fmt::format("{}: its source cannot be found", rule.module);
  if (rule.missing == "module") return fmt::format("{}: no such module", rule.module);
  if (rule.missing == "parameter")
    return fmt::format("{}: {} has lost a parameter that is read", rule.module, rule.name);
  return fmt::format("{}: {} is not there", rule.module, rule.name);
}

// What is lost with it.
std::string_view consequence(const RuleCheck& rule) {
  if (rule.kind == "decorators") return "no call of FlashInfer's is seen";
  if (rule.kind == "functions") return "calls that only this rule shows are missing";
  if (rule.kind == "scopes") return "warm-ups and captures may be taken for traffic";
  return "sequences that pad a batch may be taken for real ones";
}

}  // namespace

const PackageCheck* Diagnosis::package(std::string_view name) const {
  const auto found = std::ranges::find(packages, name, &PackageCheck::name);
  return found == packages.end() ? nullptr : &*found;
}

bool Diagnosis::is_healthy() const {
  const PackageCheck* const api = package(flashinfer_package);
  return api != nullptr && !api->version.empty() &&
         std::ranges::all_of(rules, [](const RuleCheck& rule) { return rule.missing.empty(); });
}

Result<Diagnosis> diagnose(const std::string& python, const BindingSet& bindings,
                           const std::string& rules) {
  CW_TRY(const Json config, parse_rules(rules));
  return ask({{python}}, config, bindings, limit);
}

std::string describe(const RuleCheck& broken) {
  return fmt::format("{}; {}", what_is_missing(broken), consequence(broken));
}

std::string_view title_of(std::string_view package) {
  constexpr std::pair<std::string_view, std::string_view> titles[] = {
      {flashinfer_package, "FlashInfer"},
      {"sglang", "SGLang"},
      {"vllm", "vLLM"},
      {"torch", "PyTorch"}};
  for (const auto& [name, title] : titles)
    if (name == package) return title;
  return package;
}

namespace {

std::vector<std::string> doubts_of(const Diagnosis& diagnosis) {
  const PackageCheck* const api = diagnosis.package(flashinfer_package);
  if (api == nullptr || api->version.empty())
    return {fmt::format("FlashInfer is not installed for {}", diagnosis.executable)};

  // New versions, of what has rules; then what is known to be wrong with them.
  std::vector<std::string> all, untried;
  for (const PackageCheck& package : diagnosis.packages) {
    const bool has_rules = std::ranges::find(diagnosis.rules, package.name, &RuleCheck::package) !=
                           diagnosis.rules.end();
    if (has_rules && !package.is_tried)
      untried.push_back(fmt::format("{} {}", title_of(package.name), package.version));
  }
  if (!untried.empty())
    all.push_back(fmt::format("recording was not tried with {}", fmt::join(untried, " and ")));
  std::map<std::string_view, std::vector<std::string>> broken;
  for (const RuleCheck& rule : diagnosis.rules)
    if (!rule.missing.empty()) broken[consequence(rule)].push_back(what_is_missing(rule));
  constexpr std::size_t shown = 2;
  for (auto& [why, rules] : broken) {
    const std::size_t others = rules.size() - std::min(rules.size(), shown);
    rules.resize(rules.size() - others);
    all.push_back(fmt::format(
        "{}: {}{}", why, fmt::join(rules, "; "),
        others > 0 ? fmt::format("; and {} more (`collect-workloads doctor`)", others) : ""));
  }
  return all;
}

}  // namespace

std::vector<std::string> doubts(const std::string& python, const std::string& rules,
                                const Variables& environment) {
  if (python.empty() || rules.empty()) return {};
  const auto config = parse_rules(rules);
  if (!config) return {};
  Command command{{python}};
  command.environment = environment;
  const auto diagnosis = ask(std::move(command), *config, BindingSet(), limit_of_rules);
  return diagnosis ? doubts_of(*diagnosis) : std::vector<std::string>();
}

}  // namespace cw
