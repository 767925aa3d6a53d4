#include <atomic>
#include <cstdio>
#include <thread>

#include "base/console.h"
#include "base/process.h"
#include "cli/command.h"
#include "cli/errors.h"
#include "cli/shared_options.h"
#include "cli/texts.h"

namespace cw::cli {
namespace {

class DriveCommand final : public Command {
 public:
  std::string name() const override { return "drive"; }
  std::string description() const override { return "Send traffic to a running engine"; }

  void declare(Options& options) override {
    options.value("--url", url_, "The engine's URL").shows_default().meta("URL");
    options.value("--model-name", traffic_.model(), "Model for the OpenAI endpoints").meta("MODEL");
    traffic_.declare(options);
  }

  int run(const CommonArguments& common) override {
    watch_signals();
    const TrafficRequest request = traffic_.request();
    const auto prompts = open_prompt_source(request, "python3");
    if (!prompts) return print_error(prompts.error());

    // Whether somebody is there, and how that is spoken to.
    TrafficOptions options = traffic_options(request);
    options.url = without_api_path(url_);
    const auto health =
        http_get(options.url + "/health", std::chrono::seconds(5), max_health, options.headers);
    if (!health) return print_error(health.error(), "Start the engine first, or pass its --url.");
    const bool is_openai_url = url_ != options.url && url_.find("/v1") != std::string::npos;
    auto endpoint = request.endpoint;
    if (!endpoint && is_openai_url)
      endpoint = (*prompts)->has_text() ? Endpoint::chat : Endpoint::completions;
    choose_api(options, endpoint, (*prompts)->has_text());

    const auto result = send(**prompts, options, common);
    if (!result) return print_error(result.error());
    if (common.is_json)
      print_json(to_json(*result));
    else
      print(stdout, describe(*result));
    return result->completed > 0 ? exit_success : exit_failure;
  }

 private:
  static Result<TrafficReport> send(PromptSource& prompts, const TrafficOptions& options,
                                    const CommonArguments& common) {
    TrafficControl control;
    ProgressLine progress(common.is_quiet);
    std::atomic<bool> is_done = false;
    Result<TrafficReport> result = TrafficReport{};
    std::thread sender([&] {
      result = cw::drive(prompts, options, control);
      is_done = true;
    });
    while (!is_done) {
      progress.update(fmt::format("{} of {} requests, {} in flight, {} tokens", control.done.load(),
                                  control.total.load(), control.under_way.load(),
                                  with_separators(control.output_tokens)));
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    sender.join();
    progress.clear();
    return result;
  }

  std::string url_ = "http://127.0.0.1:30000";
  TrafficArguments traffic_;
};

}  // namespace

std::unique_ptr<Command> make_drive() {
  return std::make_unique<DriveCommand>();
}

}  // namespace cw::cli
