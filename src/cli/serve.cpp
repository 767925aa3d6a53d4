#include <cstdio>
#include <cstdlib>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/console.h"
#include "base/file.h"
#include "base/process.h"
#include "cli/command.h"
#include "cli/errors.h"
#include "engine/recipes.h"
#include "simulated/server.h"

namespace cw::cli {
namespace {

using Fault = simulated::ServerOptions::Fault;
using Kind = simulated::Misbehaviour::Kind;

constexpr int usual_port = 30000;  // SGLang's

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

class ServeCommand final : public Command {
 public:
  std::string name() const override { return "serve"; }
  std::string description() const override { return "Run the simulated engine on its own"; }

  void declare(Options& options) override {
    // What is served, and where.
    options
        .value("--model-name,--model-path", server_.model,
               "A model from the recipes, or a folder with its\nconfig.json")
        .required()
        .meta("MODEL");
    options.value("--host", host_, "Address to listen on").shows_default().meta("ADDR");
    options.value("--port", port_, "Port to listen on (default: 30000)").range(1, 65535).meta("N");

    declare_scheduler(options);
    options
        .value("--health-seconds", server_.health_seconds,
               "Time /health takes (SGLang generates a token)")
        .shows_default()
        .meta("S");
    options.value("--load-seconds", server_.load_seconds, "How long loading takes")
        .shows_default()
        .meta("S");
    options.value("--recipes", recipes_, "Recipes to replace the built-in ones").meta("FILE");

    // How it goes wrong.
    options
        .choice<Misbehaviour>("--misbehave", misbehaviour_,
                              {{"refuse", {Fault::refuse, Kind::none}},
                               {"die-loading", {Fault::die_loading, Kind::none}},
                               {"500", {Fault::error_500, Kind::none}},
                               {"garbage", {Fault::garbage, Kind::none}},
                               {"die", {Fault::none, Kind::die}},
                               {"hang", {Fault::none, Kind::hang}},
                               {"fill-disk", {Fault::none, Kind::fill_disk}},
                               {"half-dump", {Fault::none, Kind::half_dump}}},
                              "For tests: refuse, die-loading, 500, garbage;\n"
                              "or at a step: die, hang, fill-disk, half-dump")
        .meta("HOW");
    options.value("--misbehave-after", server_.misbehaviour.after, "The step at which to misbehave")
        .shows_default()
        .meta("N");
  }

  int run(const CommonArguments& common) override {
    watch_signals();
    ::umask(077);  // its dumps are the user's alone
    const auto recipes = Recipes::load(recipes_);
    if (!recipes) return print_error(recipes.error());
    const auto config = config_of(server_.model, *recipes);
    if (!config) return print_error(config.error());
    const auto shape = simulated::shape_from_config(*config, tensor_parallel_);
    if (!shape) return print_error(shape.error());

    server_.host = host_;
    server_.port = static_cast<std::uint16_t>(port_ > 0 ? port_ : usual_port);
    server_.scheduler.shape = *shape;
    server_.scheduler.tensor_parallel = tensor_parallel_;
    const char* const paged = std::getenv("SGLANG_FLASHINFER_USE_PAGED");
    server_.scheduler.uses_paged_prefill = paged != nullptr && std::string_view(paged) == "1";
    server_.fault = misbehaviour_.fault;
    server_.misbehaviour.kind = misbehaviour_.kind;
    if (!common.is_quiet)
      print(stderr, fmt::format("Simulating {} (tp {}) on http://{}:{}\n", server_.model,
                                tensor_parallel_, server_.host, server_.port));

    const auto served = simulated::serve(server_);
    if (served) return exit_success;
    return print_error(served.error(),
                       served.error().code == "port_taken" ? "Choose another --port." : "");
  }

 private:
  void declare_scheduler(Options& options) {
    simulated::SchedulerOptions& scheduler = server_.scheduler;
    options.value("--tp,--tp-size", tensor_parallel_, "Tensor parallel size")
        .shows_default()
        .meta("N");

    // The KV pool and how it is shared.
    options.value("--max-total-tokens", scheduler.max_total_tokens, "Size of the KV pool")
        .range(64, 100'000'000)
        .shows_default()
        .meta("N");
    options
        .value("--chunked-prefill-size", scheduler.chunked_prefill_size,
               "Maximum tokens per prefill step")
        .range(1, 100'000'000)
        .shows_default()
        .meta("N");
    options
        .value("--max-running-requests", scheduler.max_running, "Maximum sequences per decode step")
        .range(1, 1'000'000)
        .shows_default()
        .meta("N");
    options.flag("!--disable-radix-cache", scheduler.has_prefix_cache, "Disable the prefix cache");
    options.flag("!--flashinfer-mla-disable-ragged", scheduler.uses_ragged_mla,
                 "MLA prefill over the pool");

    // The time that a step takes.
    options.value("--decode-step-ms", scheduler.decode_step_ms, "How long a decode step takes")
        .shows_default()
        .meta("MS");
    options.value("--prefill-token-us", scheduler.prefill_token_us, "Prefill time per token")
        .shows_default()
        .meta("US");
  }

  struct Misbehaviour {
    Fault fault = Fault::none;  ///< of the server
    Kind kind = Kind::none;     ///< at a step
  };

  simulated::ServerOptions server_;
  Misbehaviour misbehaviour_;
  std::string host_ = "127.0.0.1";
  int port_ = 0, tensor_parallel_ = 1;
  std::filesystem::path recipes_;
};

}  // namespace

std::unique_ptr<Command> make_serve() {
  return std::make_unique<ServeCommand>();
}

}  // namespace cw::cli
