#include "sanitize/defects.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace cw {
namespace {

constexpr auto info = Severity::info, warning = Severity::warning, error = Severity::error;

// By code.
constexpr std::array table{
    Defect{"axes_disagree", error, "two inputs of the call give one axis different extents"},
    Defect{"axes_unknown", warning, "nothing in the call gives the extent of an axis"},
    Defect{"axis_unknown", warning, "an expression asks for an axis that the call does not show"},
    Defect{
        "before_traffic", warning,
        "made while the engine started, before its first request; --include-suspicious takes it"},
    Defect{"call_unfinished", warning,
           "the call never returned; what it was given counts all the same"},
    Defect{"calls_lost", warning,
           "the last calls of a process that was killed or left by os._exit are missing"},
    Defect{"calls_missing", warning,
           "FlashInfer numbered calls that it did not dump: they were past its size limit"},
    Defect{"calls_over_budget", warning,
           "calls that are counted and not itemized: --record-budget was used up"},
    Defect{"capture_warmup", warning,
           "run eagerly under the plan that a CUDA graph was then captured with"},
    Defect{
        "captured_in_cuda_graph", warning,
        "recorded while a CUDA graph was captured: level 10 does not see what replays are given"},
    Defect{"constraint", error, "a constraint of the definition does not hold"},
    Defect{"dtype", warning, "values that the definition's data type cannot hold"},
    Defect{"events_lost", warning, "the recorder was too far behind to count some calls"},
    Defect{"existing_unreadable", warning,
           "workloads of the dataset have blobs that cannot be read (git lfs pull?)"},
    Defect{"expression_type", error, "an expression of a binding cannot be evaluated on the call"},
    Defect{"folders_too_deep", error, "folders are nested deeper than any capture's"},
    Defect{"input_missing", warning, "the call did not have an input, or it was not captured"},
    Defect{"input_shape", warning, "an input has a shape that its binding does not know"},
    Defect{"internal", error, "reading or binding the call failed unexpectedly"},
    Defect{"metadata_disagrees", error, "a dump's folder and its metadata name different calls"},
    Defect{"metadata_malformed", error, "a dump's metadata.jsonl is not what FlashInfer writes"},
    Defect{"metadata_missing", error, "a dump's folder has no metadata.jsonl"},
    Defect{"no_binding", warning, "no binding reads the definition's calls"},
    Defect{"no_definition", info, "no definition in the dataset is for this function", true},
    Defect{"no_definition_fits", info,
           "no definition has the shapes of the call; the nearest is named", true},
    Defect{"not_found", error, "a file of the capture is gone"},
    Defect{"not_selected", info, "the call fits a definition that was not asked for"},
    Defect{"not_traffic", info, "made to warm up, to tune or to capture a CUDA graph"},
    Defect{"optional_unknown", info,
           "an optional input is missing and FlashInfer documents no default for it"},
    Defect{"order_in_doubt", warning,
           "calls of one millisecond whose order decides which plan a run belongs to"},
    Defect{"other_half_missing", warning,
           "looks like one half of an extend, and nothing says whether it is causal"},
    Defect{"other_stage", info, "called in a way that no definition in the dataset describes"},
    Defect{"pickle_malformed", error, "a PyTorch archive's pickle is damaged"},
    Defect{"pickle_refused", error, "a PyTorch archive's pickle does more than hold tensors"},
    Defect{"plan_in_doubt", warning, "the wrapper's last known plan may not be the run's"},
    Defect{"plan_missing", warning, "the capture has no plan of the run's wrapper"},
    Defect{"record_malformed", error, "a record of a recording is not what the recorder writes"},
    Defect{"recording_cut_off", warning,
           "the last record of a recording is half there: the process was killed while writing"},
    Defect{"recording_damaged", error, "a frame of a recording has a wrong checksum or no header"},
    Defect{"recording_not_ended", warning,
           "the process was killed while it called something; up to a second may be missing"},
    Defect{"recording_unknown", error, "a file is no recording, or of a later format"},
    Defect{"recording_unreadable", error, "a recording cannot be opened or read"},
    Defect{"replays_lost", warning,
           "the last replays of CUDA graphs of a process that was killed are missing"},
    Defect{"safetensors_malformed", error, "a safetensors file is damaged"},
    Defect{"scalar_unknown", warning, "a scalar has no value and no documented default"},
    Defect{"session_unreadable", error, "session.jsonl cannot be read, so some order is not known"},
    Defect{"signature_malformed", error, "a recorded signature is none that Python prints"},
    Defect{"signature_mismatch", error, "the call has more arguments than its signature"},
    Defect{"structure", error, "index tensors that a kernel would read out of bounds with"},
    Defect{"suspicious_dummy", warning,
           "a batch that no engine decodes: a warm-up's or a capture's; --include-suspicious takes "
           "it"},
    Defect{"tensors_missing", error, "a dump has no file of its tensors, or not all of them"},
    Defect{"too_large", error, "larger than anything that is read into memory"},
    Defect{"torch_archive_malformed", error, "a PyTorch archive is damaged"},
    Defect{"torch_archive_refused", error, "a PyTorch archive of a kind that is not read"},
    Defect{"truncated", error, "a file ends before its content does"},
    Defect{"unknown_name", error, "a binding asks for a name that calls do not have"},
    Defect{"unnamed_arguments", warning,
           "positional arguments whose names neither signature nor binding knows"},
    Defect{"unreadable", error, "a file of the capture cannot be read"},
    Defect{"unreadable_folder", error, "a folder of the capture cannot be listed"},
    Defect{"unsupported_dtype", warning, "a tensor of a data type that is not read"},
    Defect{"values_in_graph", warning,
           "made in a replay of a CUDA graph, where index values cannot be read"},
    Defect{"values_lost", warning, "index tensors that the recorder could not take"},
    Defect{"values_not_recorded", info, "values of a tensor that the recorder does not keep"},
    Defect{"values_sampled_out", info, "enough other index tensors of such lengths were kept"},
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
      "capture is damaged,\nby the names that `collection.json` has. *info* is in the nature of "
      "the capture, *warning* may be worth a look,\n*error* is damage. Reasons that a binding "
      "gives "
      "are explained in `data/bindings.yaml`.\n\n"
      "This page is made from `src/sanitize/defects.cpp`.\n\n"
      "| name | severity | meaning |\n|---|---|---|\n";
  for (const Defect& defect : table)
    page += fmt::format("| `{}` | {} | {} |\n", defect.code, name(defect.severity), defect.help);
  return page;
}

}  // namespace cw
