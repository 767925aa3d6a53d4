#include "sanitize/defects.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace cw {
namespace {

constexpr auto info = Severity::info, warning = Severity::warning, error = Severity::error;

// Sorted by code.
constexpr std::array table{
    Defect{"axes_disagree", error,
           "two inputs of the call have different extents for the same axis"},
    Defect{"axes_unknown", warning, "nothing in the call determines the extent of an axis"},
    Defect{"axis_unknown", warning, "an expression uses an axis that the call does not determine"},
    Defect{"before_traffic", warning,
           "made while the engine started, before its first request; --include-suspicious includes "
           "it"},
    Defect{"call_unfinished", warning, "the call never returned; its inputs count all the same"},
    Defect{"calls_lost", warning,
           "the last calls of a process that was killed or called os._exit are missing"},
    Defect{"calls_missing", warning,
           "FlashInfer numbered calls that it did not dump: they exceeded its size limit"},
    Defect{"calls_over_budget", warning,
           "calls that are counted but not itemized: --record-budget was used up"},
    Defect{"capture_warmup", warning,
           "run eagerly under the plan with which a CUDA graph was then captured"},
    Defect{
        "captured_in_cuda_graph", warning,
        "recorded while a CUDA graph was captured: level 10 does not see the arguments of replays"},
    Defect{"constraint", error, "a constraint of the definition does not hold"},
    Defect{"dtype", warning, "values that the definition's data type cannot represent"},
    Defect{"events_lost", warning, "the recorder was too far behind to count some calls"},
    Defect{"existing_unreadable", warning,
           "workloads of the dataset have blobs that cannot be read (git lfs pull?)"},
    Defect{"expression_type", error, "an expression in a binding cannot be evaluated for the call"},
    Defect{"folders_too_deep", error, "directories are nested deeper than in any capture"},
    Defect{"graph_exposed", warning,
           "the engine took a handle of a CUDA graph: what it launches with that is not seen"},
    Defect{"input_missing", warning, "the call lacks an input, or it was not captured"},
    Defect{"input_shape", warning, "an input has a shape that its binding does not support"},
    Defect{"internal", error, "reading or binding the call failed unexpectedly"},
    Defect{"metadata_disagrees", error,
           "a dump's directory name and its metadata identify different calls"},
    Defect{"metadata_malformed", error, "a dump's metadata.jsonl is not what FlashInfer writes"},
    Defect{"metadata_missing", error, "a dump's directory has no metadata.jsonl"},
    Defect{"no_binding", warning, "no binding matches the definition"},
    Defect{"no_definition", info, "no definition in the dataset is for this function", true},
    Defect{"no_definition_fits", info,
           "no definition has the shapes of the call; the closest one is named", true},
    Defect{"not_found", error, "a file of the capture no longer exists"},
    Defect{"not_selected", info, "the call fits a definition that was not requested"},
    Defect{"not_traffic", info, "made to warm up, autotune or capture a CUDA graph"},
    Defect{"optional_unknown", info,
           "an optional input is missing and FlashInfer documents no default for it"},
    Defect{"order_in_doubt", warning,
           "calls within one millisecond whose order determines which plan a run belongs to"},
    Defect{"other_half_missing", warning,
           "looks like one half of an extend, and nothing says whether it is causal"},
    Defect{"other_stage", info, "called in a way that no definition in the dataset describes"},
    Defect{"pickle_malformed", error, "a PyTorch archive's pickle is damaged"},
    Defect{"pickle_refused", error, "a PyTorch archive's pickle contains more than tensors"},
    Defect{"plan_in_doubt", warning,
           "the last known plan of the wrapper may not be the one of this run"},
    Defect{"plan_missing", warning, "the capture has no plan for the run's wrapper"},
    Defect{"record_malformed", error, "a record of a recording is not what the recorder writes"},
    Defect{"recording_cut_off", warning,
           "the last record of a recording is incomplete: the process was killed while writing it"},
    Defect{"recording_damaged", error, "a frame of a recording has a wrong checksum or no header"},
    Defect{"recording_not_ended", warning,
           "the process was killed while calls were being made; up to a second may be missing"},
    Defect{"recording_unknown", error, "a file is not a recording, or has a newer format"},
    Defect{"recording_unreadable", error, "a recording cannot be opened or read"},
    Defect{"replays_lost", warning,
           "the last CUDA graph replays of a process that was killed are missing"},
    Defect{"safetensors_malformed", error, "a safetensors file is damaged"},
    Defect{"scalar_unknown", warning, "a scalar has no value and no documented default"},
    Defect{"session_unreadable", error,
           "session.jsonl cannot be read, so the order of some calls is unknown"},
    Defect{"signature_malformed", error, "a recorded signature is not one that Python prints"},
    Defect{"signature_mismatch", error,
           "the call has more arguments than its signature has parameters"},
    Defect{"structure", error, "index tensors that would make a kernel read out of bounds"},
    Defect{"suspicious_dummy", warning,
           "a batch that no engine decodes in traffic: from a warm-up or a capture; "
           "--include-suspicious includes it"},
    Defect{"tensors_missing", error, "a dump has no tensor file, or not all of its tensors"},
    Defect{"too_large", error, "exceeds the limits on what is read into memory"},
    Defect{"torch_archive_malformed", error, "a PyTorch archive is damaged"},
    Defect{"torch_archive_refused", error, "an unsupported kind of PyTorch archive"},
    Defect{"truncated", error, "a file ends prematurely"},
    Defect{"unknown_name", error, "a binding uses a name that calls do not have"},
    Defect{"unnamed_arguments", warning,
           "positional arguments that neither the signature nor the binding names"},
    Defect{"unreadable", error, "a file of the capture cannot be read"},
    Defect{"unreadable_folder", error, "a directory of the capture cannot be listed"},
    Defect{"unsupported_dtype", warning, "a tensor has an unsupported data type"},
    Defect{"values_in_graph", warning,
           "made or planned in a replay of a CUDA graph, which makes its index tensors itself"},
    Defect{"values_lost", warning, "index tensors that the recorder could not copy"},
    Defect{"values_not_recorded", info, "values of a tensor that the recorder does not record"},
    Defect{"values_sampled_out", info, "enough other index tensors of similar length were kept"},
    Defect{"values_too_short", error, "fewer values were recorded than the call uses"},
};

static_assert(std::ranges::is_sorted(table, {}, &Defect::code));

}  // namespace

std::string_view name(Severity severity) {
  switch (severity) {
    case Severity::info:
      return "info";
    case Severity::warning:
      return "warning";
    case Severity::error:
      return "error";
  }
  return {};
}

std::span<const Defect> defects() {
  return table;
}

const Defect* find_defect(std::string_view code) {
  const auto found = std::ranges::lower_bound(table, code, {}, &Defect::code);
  return found == table.end() || found->code != code ? nullptr : &*found;
}

Severity severity_of(std::string_view code) {
  const Defect* const defect = find_defect(code);
  return defect == nullptr ? Severity::info : defect->severity;
}

bool is_grouped(std::string_view code) {
  const Defect* const defect = find_defect(code);
  return defect != nullptr && defect->is_grouped;
}

std::string defects_page() {
  std::string page =
      "# Defects\n\n"
      "What `sanitize`, `watch`, `collect` and `inspect` count when a call gives no workload or a "
      "capture\n"
      "is damaged, by the names used in `collection.json`. *info* is inherent in the capture, "
      "*warning* may\n"
      "be worth a look, *error* is damage. Reasons defined by bindings are explained in\n"
      "`data/bindings.yaml`.\n\n"
      "This page is generated from `src/sanitize/defects.cpp`.\n\n"
      "| name | severity | meaning |\n|---|---|---|\n";
  for (const Defect& defect : table)
    page += fmt::format("| `{}` | {} | {} |\n", defect.code, name(defect.severity), defect.help);
  return page;
}

}  // namespace cw
