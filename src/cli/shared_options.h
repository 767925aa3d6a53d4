// Options that several commands have.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.h"
#include "collect/capture_plan.h"
#include "sanitize/sanitize.h"
#include "traffic/request.h"

namespace cw::cli {

/// --trace-dir, as the dataset that a command works on.
Option add_dataset(Options& options, std::filesystem::path& trace_dir,
                   const std::string& help = "The dataset");

/// --definition-name and --op-type.
void add_definitions(Options& options, std::vector<std::string>& names,
                     std::vector<std::string>& op_types,
                     const std::string& of_names = "Only these definitions",
                     const std::string& of_op_types = "Only definitions of these op types");

/// Which of the distinct workloads are kept, and how they are stored.
void add_selection(Options& options, SanitizeOptions& sanitize);

/// --record-budget and --recorder-rules.
void add_recorder(Options& options, CaptureOptions& capture);

/// Engine, model, environment and capture.
void add_engine(Options& options, CaptureRequest& request, std::filesystem::path& dump_dir);

/// Prompts, schedules, and what requests ask for.
class TrafficArguments {
 public:
  void declare(Options& options);
  TrafficRequest request() const;
  /// The name of the model that is asked for.
  std::string& model() { return request_.options.model; }

 private:
  void declare_prompts(Options& options);
  void declare_schedules(Options& options);
  void declare_lengths(Options& options);
  void declare_server(Options& options);
  void declare_sampling(Options& options);

  TrafficRequest request_;
  std::optional<std::size_t> seed_;
};

/// How much longer each call takes to deal with, so that tests meet a watcher that is behind.
std::chrono::steady_clock::duration slowness_for_tests();

}  // namespace cw::cli
