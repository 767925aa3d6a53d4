#include <cstdio>

#include <fcntl.h>
#include <fmt/ranges.h>

#include "base/console.h"
#include "capture/level10/tensor_file.h"
#include "capture/method.h"
#include "cli/command.h"
#include "cli/errors.h"
#include "cli/texts.h"
#include "dataset/dataset.h"
#include "sanitize/survey.h"

namespace cw::cli {
namespace {

std::string describe(const ShapeRange& range) {
  std::vector<std::string> extents, dtypes;
  constexpr std::size_t shown = 16;
  for (std::size_t i = 0; i < std::min(range.min.size(), shown); ++i)
    extents.push_back(range.min[i] == range.max[i]
                          ? fmt::format("{}", range.min[i])
                          : fmt::format("{}..{}", range.min[i], range.max[i]));
  if (range.min.size() > shown) extents.push_back(fmt::format("… {} in all", range.min.size()));
  for (const DType dtype : range.dtypes) dtypes.emplace_back(trace_name(dtype));
  return fmt::format("[{}]{} {}", fmt::join(extents, ", "),
                     range.has_many_ranks ? " and other ranks" : "", fmt::join(dtypes, "|"));
}

std::string describe(const Value& value, const Call& call) {
  if (const Tensor* tensor = value.tensor())
    return fmt::format("tensor {} {}", trace_name(tensor->dtype),
                       to_string(call.shape_of(*tensor)));
  if (const auto* sequence = std::get_if<Sequence>(&value.data)) {
    std::vector<std::string> items;
    for (const Value& item : sequence->items) items.push_back(describe(item, call));
    return fmt::format("({}{})", fmt::join(items, ", "), sequence->truncated ? ", …" : "");
  }
  if (const auto* number = std::get_if<Enumerator>(&value.data))
    return fmt::format("{} ({})", number->name, number->value);
  if (const auto* opaque = std::get_if<Opaque>(&value.data))
    return opaque->text.empty() ? opaque->type : opaque->text.substr(0, 60);
  if (const auto* flag = std::get_if<bool>(&value.data)) return *flag ? "True" : "False";
  if (const auto* integer = std::get_if<std::int64_t>(&value.data))
    return fmt::format("{}", *integer);
  if (const auto* real = std::get_if<double>(&value.data)) return fmt::format("{}", *real);
  if (const auto* text = std::get_if<std::string>(&value.data)) return fmt::format("'{}'", *text);
  return "None";
}

std::string_view name(CallStatus status) {
  switch (status) {
    case CallStatus::completed:
      return "completed";
    case CallStatus::captured:
      return "captured in a CUDA graph";
    case CallStatus::dummy:
      return "dummy, to warm up or to capture a graph";
    case CallStatus::unfinished:
      return "unfinished";
  }
  return {};
}

int inspect_call(const Call& call, const std::string& location, bool is_json) {
  if (is_json) {
    Json arguments = Json::object();
    for (const auto& [name, value] : call.content->arguments)
      arguments[name] = describe(value, call);
    print_json({{"location", location},
                {"function", call.content->function},
                {"module", call.content->module},
                {"status", name(call.status)},
                {"process", call.wrapper.process},
                {"wrapper", fmt::format("{:#x}", call.wrapper.self)},
                {"arguments", arguments}});
    return exit_success;
  }

  // For people: one line per argument.
  std::string text =
      fmt::format("{}\n  {} ({}), {}\n  process {}", location, call.content->function,
                  call.content->module, name(call.status), call.wrapper.process);
  if (call.wrapper.self != 0) text += fmt::format(", wrapper {:#x}", call.wrapper.self);
  text += "\n";
  for (const auto& [name, value] : call.content->arguments)
    text += fmt::format("  {:<24} {}\n", name, describe(value, call));
  print(stdout, text);
  return exit_success;
}

int inspect_tensor_file(const std::filesystem::path& path, bool is_json) {
  const bool is_archive = path.extension() == ".pt";
  const auto file = is_archive
                        ? level10::open_torch_archive(AT_FDCWD, path.string(), path.string())
                        : level10::open_safetensors_file(AT_FDCWD, path.string(), path.string());
  if (!file) return print_error(file.error());
  Json json = Json::array();
  for (const level10::TensorFileEntry& entry : (*file)->entries()) {
    if (is_json)
      json.push_back(
          {{"name", entry.name}, {"dtype", trace_name(entry.dtype)}, {"shape", entry.shape}});
    else
      print(stdout, fmt::format("  {:<24} {:<16} {}\n", entry.name, trace_name(entry.dtype),
                                to_string(entry.shape)));
  }
  if (is_json) print_json(json);
  return exit_success;
}

std::string describe(const Survey& survey, const Binder& binder, const BindingSet& bindings,
                     bool has_dataset) {
  std::string text = fmt::format(
      "{} calls in {} processes{}\n", with_separators(survey.calls), survey.processes.size(),
      survey.flashinfer_versions.empty()
          ? ""
          : fmt::format(", FlashInfer {}", fmt::join(survey.flashinfer_versions, ", ")));

  if (survey.graph_flushes > 0)
    text += fmt::format("{} flushes of calls captured in CUDA graphs\n",
                        with_separators(survey.graph_flushes));

  // Each function with the shapes it was called with and the definitions that these fit.
  for (const auto& [function, counts] : survey.functions) {
    text += fmt::format("\n{}: {} calls", function, with_separators(counts.calls));
    if (!counts.wrappers.empty())
      text += fmt::format(" on {} wrapper{}", counts.wrappers.size(),
                          counts.wrappers.size() == 1 ? "" : "s");
    if (counts.bound > 0) text += fmt::format(", {} gave workloads", with_separators(counts.bound));
    if (counts.sampled > 0)
      text += fmt::format(", {} were sampled out", with_separators(counts.sampled));
    if (counts.rejected > 0 && has_dataset)
      text += fmt::format(", {} gave none", with_separators(counts.rejected));
    if (counts.skipped > 0 && !function.ends_with(".__init__"))
      text += ", not covered by any binding";
    text += "\n";
    if (const std::string_view why = bindings.why_unbound(function); !why.empty())
      text += wrap(std::string(why), 80, "    ");

    for (const auto& [argument, range] : counts.shapes)
      text += fmt::format("    {:<24} {}\n", argument, describe(range));
    for (const Target& target : binder.targets()) {
      const auto found = counts.fits.find(&target);
      if (found == counts.fits.end()) continue;
      text += fmt::format("  fits {} ({} calls)\n", target.definition->name,
                          with_separators(found->second.calls));
      for (const auto& [name, count] : found->second.derived)
        text += fmt::format("    {} is derived in {} of them\n", name, with_separators(count));
    }

    // What was wrong with its calls.
    Tally own;
    for (const auto& [key, item] : survey.tally.items())
      if (key.function == function && (has_dataset || key.code != "no_definition"))
        own.items()[key] = item;
    text += describe_tally(own, TallyScope::everything);
  }

  // What concerns no single function.
  Tally rest;
  for (const auto& [key, item] : survey.tally.items())
    if (key.function.empty()) rest.items()[key] = item;
  const std::string defects = describe_tally(rest, TallyScope::everything);
  return defects.empty() ? text : text + "\nDefects\n" + defects;
}

Json to_json(const Survey& survey, const BindingSet& bindings) {
  const auto items_of = [&survey](const std::string& function) {
    Json items = Json::array();
    for (const auto& [key, item] : survey.tally.items())
      if (key.function == function)
        items.push_back({{"reason", key.code},
                         {"severity", name(severity_of(key.code))},
                         {"count", item.count},
                         {"message", item.message},
                         {"example", item.example}});
    return items;
  };

  Json functions = Json::object();
  for (const auto& [function, counts] : survey.functions) {
    Json shapes = Json::object(), fits = Json::object();
    for (const auto& [argument, range] : counts.shapes) shapes[argument] = describe(range);
    for (const auto& [target, fit] : counts.fits)
      fits[target->definition->name] = {{"calls", fit.calls}, {"derived", fit.derived}};
    const std::string_view why_unbound = bindings.why_unbound(function);
    functions[function] = {{"calls", counts.calls},
                           {"wrappers", counts.wrappers.size()},
                           {"bound", counts.bound},
                           {"sampled", counts.sampled},
                           {"rejected", counts.rejected},
                           {"skipped", counts.skipped},
                           {"why_unbound", why_unbound.empty() ? Json() : Json(why_unbound)},
                           {"shapes", shapes},
                           {"fits", fits},
                           {"rejections", items_of(function)}};
  }

  return {{"calls", survey.calls},
          {"processes", survey.processes.size()},
          {"flashinfer_versions", survey.flashinfer_versions},
          {"graph_flushes", survey.graph_flushes},
          {"functions", functions},
          {"defects", items_of("")}};
}

// Definitions of the dataset that no capture can give, and why; said here because nothing else
// would.
std::string describe_unbindable(const Dataset& dataset, const BindingSet& bindings) {
  std::map<std::string, std::vector<std::string>> by_reason;
  for (const Definition& definition : dataset.definitions) {
    const auto serving = bindings.serving(definition);
    if (!serving)
      by_reason[serving.error().message].push_back(definition.name);
    else if (!serving->front()->unbindable.empty())
      by_reason[serving->front()->unbindable].push_back(definition.name);
  }
  std::string text;
  for (const auto& [reason, names] : by_reason)
    text += wrap(
        fmt::format("{}{}: {}", names[0],
                    names.size() == 1 ? "" : fmt::format(" and {} more", names.size() - 1), reason),
        80, "  ");
  return text.empty() ? text
                      : "\nDefinitions for which no FlashInfer capture can give workloads\n" + text;
}

class InspectCommand final : public Command {
 public:
  std::string name() const override { return "inspect"; }
  std::string description() const override { return "Show what was captured and what fits"; }

  void declare(Options& options) override {
    options.value("path", paths_, "Capture folders, a single call or tensor file")
        .required()
        .meta("PATH");
    options.value("--trace-dir", trace_dir_, "Dataset with the definitions to match").meta("DIR");
  }

  int run(const CommonArguments& common) override {
    const auto bindings = BindingSet::load(common.bindings);
    if (!bindings) return print_error(bindings.error());

    // A tensor file, or one call.
    const auto extension = paths_[0].extension();
    if (paths_.size() == 1 && (extension == ".safetensors" || extension == ".pt"))
      return inspect_tensor_file(paths_[0], common.is_json);
    for (std::filesystem::path& path : paths_)
      if (path.filename() == "metadata.jsonl") path = std::filesystem::absolute(path).parent_path();
    const auto capture = open_capture(paths_);
    if (!capture) return print_error(capture.error());
    const bool is_one_call = (*capture)->size() == 1 && !capture_method_of(paths_[0]).is_lasting();
    if (is_one_call) {
      const auto call = (*capture)->read(0);
      if (!call) return print_error(call.error());
      return inspect_call(*call, (*capture)->location((*capture)->place(0)), common.is_json);
    }

    Dataset dataset;
    if (!trace_dir_.empty()) {
      auto opened = Dataset::open(trace_dir_);
      if (!opened) return print_error(opened.error());
      dataset = std::move(*opened);
    }
    return inspect_capture(**capture, dataset, *bindings, common);
  }

 private:
  int inspect_capture(Capture& capture, const Dataset& dataset, const BindingSet& bindings,
                      const CommonArguments& common) const {
    const Binder binder(dataset.definitions, bindings);
    ProgressLine progress(common.is_quiet);
    SurveyOptions options;
    options.reads_everything = options.is_whole = true;
    options.progress = [&](std::size_t done) {
      progress.update(fmt::format("{} calls", with_separators(done)));
    };
    const Survey result = survey(capture, bindings, binder, options);
    progress.clear();

    if (common.is_json) {
      print_json(to_json(result, bindings));
      return exit_success;
    }
    print(stdout, describe(result, binder, bindings, !trace_dir_.empty()));
    print(stdout, describe_unbindable(dataset, bindings));
    if (trace_dir_.empty())
      print(stdout, "\nAdd --trace-dir DATASET to see which definitions the calls fit.\n");
    return exit_success;
  }

  std::vector<std::filesystem::path> paths_;
  std::filesystem::path trace_dir_;  ///< empty: nothing is bound, only described
};

}  // namespace

std::unique_ptr<Command> make_inspect() {
  return std::make_unique<InspectCommand>();
}

}  // namespace cw::cli
