#include <cstdio>

#include <fmt/ranges.h>

#include "base/console.h"
#include "cli/command.h"
#include "cli/errors.h"
#include "cli/shared_options.h"
#include "collect/capture_plan.h"

namespace cw::cli {
namespace {

class EnvCommand final : public Command {
 public:
  std::string name() const override { return "env"; }
  std::string description() const override {
    return "Print variables to capture a definition's calls";
  }

  void declare(Options& options) override {
    add_dataset(options, request_.trace_dir, "The dataset, with its definitions");
    add_definitions(options, request_.definition_names, request_.op_types, "These definitions",
                    "Definitions of these op types");
    add_engine(options, request_, dump_dir_);
  }

  int run(const CommonArguments& common) override {
    request_.bindings = common.bindings;
    const auto plan = plan_capture(request_);
    if (!plan) return print_error(plan.error());
    for (const Unreachable& item : plan->engine.unreachable)
      print(stderr, fmt::format("collect-workloads: {} cannot be reached: {}\n",
                                item.definition->name, item.why));

    // A block of variables for each engine run.
    const std::filesystem::path folder =
        !dump_dir_.empty() ? dump_dir_
                           : std::filesystem::current_path() / plan->method->usual_folder();
    Json json = Json::array();
    for (const EngineRun& run : plan->engine.runs) {
      auto variables = run.command.environment;
      auto captured = plan->environment(run, folder);
      if (!captured) return print_error(captured.error());
      for (auto& variable : *captured) variables.push_back(std::move(variable));
      if (common.is_json)
        json.push_back(to_json(variables));
      else
        print_block(run, variables);
    }

    const std::size_t runs = plan->engine.runs.size();
    if (common.is_json) print_json(json);
    if (runs > 1 && !common.is_json)
      print(stderr, fmt::format("collect-workloads: {} engine runs, each with a block of "
                                "variables: use one block\n",
                                runs));
    return runs == 0 ? exit_failure : exit_success;
  }

 private:
  static Json to_json(const Variables& variables) {
    Json object = Json::object();
    for (const auto& [name, value] : variables) object[name] = value;
    return object;
  }

  static void print_block(const EngineRun& run, const Variables& variables) {
    std::vector<std::string> names;
    for (const Definition* definition : run.definitions) names.push_back(definition->name);
    print(stdout, fmt::format("# {}\n", fmt::join(names, ", ")));
    for (const auto& variable : variables)
      print(stdout, fmt::format("export {}\n", to_shell({{}, {variable}})));
  }

  CaptureRequest request_;
  std::filesystem::path dump_dir_;
};

}  // namespace

std::unique_ptr<Command> make_env() {
  return std::make_unique<EnvCommand>();
}

}  // namespace cw::cli
