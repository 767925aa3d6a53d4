#include "engine/doctor.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "base/console.h"
#include "capture/recorder/bundle.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/errors.h"
#include "cli/shared_options.h"
#include "cli/texts.h"
#include "dataset/dataset.h"
#include "engine/host.h"

namespace cw::cli {
namespace {

class DoctorCommand final : public Command {
 public:
  std::string name() const override { return "doctor"; }
  std::string description() const override {
    return "Check whether an installation will be recorded";
  }

  void declare(Options& options) override {
    options.value("--python", environment_.python, "The engine's Python").meta("FILE");
    options.value("--venv", environment_.venv, "Its virtual environment").meta("DIR");
    options.value("--conda-env", environment_.conda_env, "Its conda environment").meta("NAME");
    options
        .value("--trace-dir", trace_dir_,
               "Dataset: say which of its definitions can\nbe collected with this installation")
        .meta("DIR");
    options.value("--recorder-rules", rules_, "Rules to replace the built-in ones").meta("FILE");
  }

  int run(const CommonArguments& common) override {
    const auto bindings = BindingSet::load(common.bindings);
    if (!bindings) return print_error(bindings.error());
    const auto rules = recording::read_recorder_rules(rules_);
    if (!rules) return print_error(rules.error());
    std::vector<Definition> definitions;
    if (!trace_dir_.empty()) {
      auto dataset = Dataset::open(trace_dir_);
      if (!dataset) return print_error(dataset.error());
      definitions = std::move(dataset->definitions);
    }

    const auto python = find_python(environment_);
    if (!python) return print_error(python.error());
    const auto diagnosis = diagnose(*python, *bindings, *rules);
    if (!diagnosis) return print_error(diagnosis.error(), "--python names the engine's Python.");
    if (common.is_json)
      print_json(to_json(*diagnosis, *bindings, definitions));
    else
      show(*diagnosis, *bindings, definitions, common);
    return diagnosis->is_healthy() ? exit_success : exit_failure;
  }

 private:
  // What cannot be had, by why.
  using Reasons = std::map<std::string, std::vector<std::string>>;

  static void show(const Diagnosis& diagnosis, const BindingSet& bindings,
                   const std::vector<Definition>& definitions, const CommonArguments& common) {
    Console console(common);
    console.text(fmt::format("{} (Python {})\n\n", diagnosis.executable, diagnosis.python));

    // Packages, and the rules that follow their functions.
    for (const PackageCheck& package : diagnosis.packages) {
      const std::string title(title_of(package.name));
      if (package.version.empty()) {
        console.note(fmt::format("{} is not installed", title));
        continue;
      }
      std::size_t rules = 0, followed = 0;
      for (const RuleCheck& rule : diagnosis.rules) {
        if (rule.package != package.name) continue;
        ++rules;
        followed += rule.missing.empty() ? 1 : 0;
      }
      std::string text = fmt::format("{} {}", title, package.version);
      if (rules > 0) text += fmt::format(": {} of {} rules apply", followed, rules);
      if (rules > 0 && !package.is_tried) text += ", not tried with this version";
      followed == rules ? console.done(text) : console.note(text);
    }
    for (const RuleCheck& rule : diagnosis.rules)
      if (!rule.missing.empty()) console.text(wrap(describe(rule), 80, "    "));

    // And what can be made of its calls.
    const PackageCheck* const api = diagnosis.package(flashinfer_package);
    if (api == nullptr || api->version.empty()) return;
    Reasons lost;
    for (const BindingCheck& check : diagnosis.bindings)
      if (!check.why_not.empty()) lost[check.why_not].push_back(check.binding->id);
    console.text(fmt::format("\n{} of {} bindings find what they read\n",
                             std::ranges::count(diagnosis.bindings, "", &BindingCheck::why_not),
                             diagnosis.bindings.size()));
    show(lost, console);
    if (definitions.empty()) return;

    Reasons unreachable;
    for (const Definition& definition : definitions)
      if (std::string why = why_not(diagnosis, bindings, definition); !why.empty())
        unreachable[why].push_back(definition.name);
    std::size_t count = 0;
    for (const auto& [why, names] : unreachable) count += names.size();
    console.text(fmt::format("\n{} of {} definitions can come from these packages\n",
                             definitions.size() - count, definitions.size()));
    show(unreachable, console);
  }

  static void show(const Reasons& reasons, Console& console) {
    for (const auto& [why, names] : reasons)
      console.text(wrap(fmt::format("{}: {}", fmt::join(names, ", "), why), 80, "  "));
  }

  // Why none of the bindings that serve a definition can.
  static std::string why_not(const Diagnosis& diagnosis, const BindingSet& bindings,
                             const Definition& definition) {
    const auto serving = bindings.serving(definition);
    if (!serving) return serving.error().message;
    if (!serving->front()->unbindable.empty()) return serving->front()->unbindable;
    std::string why;
    for (const Binding* binding : *serving) {
      const auto check = std::ranges::find(diagnosis.bindings, binding, &BindingCheck::binding);
      if (check->why_not.empty()) return {};
      if (why.empty()) why = check->why_not;
    }
    return why;
  }

  static Json to_json(const Diagnosis& diagnosis, const BindingSet& bindings,
                      const std::vector<Definition>& definitions) {
    Json packages = Json::object(), rules = Json::array(), bound = Json::object();
    for (const PackageCheck& package : diagnosis.packages)
      packages[package.name] = {
          {"version", package.version.empty() ? Json() : Json(package.version)},
          {"tried", package.is_tried}};
    for (const RuleCheck& rule : diagnosis.rules)
      rules.push_back({{"kind", rule.kind},
                       {"module", rule.module},
                       {"name", rule.name},
                       {"missing", rule.missing.empty() ? Json() : Json(rule.missing)}});
    for (const BindingCheck& check : diagnosis.bindings)
      bound[check.binding->id] = check.why_not.empty() ? Json() : Json(check.why_not);
    Json json = {{"python", diagnosis.executable},
                 {"packages", std::move(packages)},
                 {"rules", std::move(rules)},
                 {"bindings", std::move(bound)},
                 {"healthy", diagnosis.is_healthy()}};
    for (const Definition& definition : definitions) {
      std::string why = why_not(diagnosis, bindings, definition);
      json["definitions"][definition.name] = why.empty() ? Json() : Json(std::move(why));
    }
    return json;
  }

  EngineEnvironment environment_;
  std::filesystem::path trace_dir_, rules_;
};

}  // namespace

std::unique_ptr<Command> make_doctor() {
  return std::make_unique<DoctorCommand>();
}

}  // namespace cw::cli
