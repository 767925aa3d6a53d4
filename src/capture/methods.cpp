#include <algorithm>
#include <array>

#include "capture/level10/method.h"
#include "capture/method.h"
#include "capture/recorder/method.h"

namespace cw {

namespace {

// Level-10 dumps have no mark of their own, and may lie anywhere below a folder: whatever no method
// recognizes is taken for them.
const CaptureMethod& fallback() {
  return level10::dump_method();
}

}  // namespace

// Registered here, and nowhere else.
std::span<const CaptureMethod* const> capture_methods() {
  static const auto methods = std::to_array<const CaptureMethod*>({
      &recording::recorder_method(),
      &level10::dump_method(),
  });
  return methods;
}

const CaptureMethod* find_capture_method(std::string_view name) {
  const auto methods = capture_methods();
  const auto found = std::ranges::find(methods, name, &CaptureMethod::name);
  return found == methods.end() ? nullptr : *found;
}

const CaptureMethod& capture_method_of(const std::filesystem::path& path) {
  for (const CaptureMethod* method : capture_methods())
    if (method->recognizes(path)) return *method;
  return fallback();
}

std::set<std::string> CaptureNeeds::functions() const {
  std::set<std::string> all = calls;
  for (const auto* others : {&plans, &inits, &neighbours})
    all.insert(others->begin(), others->end());
  return all;
}

Result<std::unique_ptr<Capture>> open_capture(const std::vector<std::filesystem::path>& roots) {
  std::error_code error;
  for (const std::filesystem::path& root : roots)
    if (!std::filesystem::exists(root, error))
      return fail("not_found", "{}: no such file or folder", root.string());

  // All must use the same method.
  const CaptureMethod* method = nullptr;
  for (const std::filesystem::path& root : roots) {
    const CaptureMethod& own = capture_method_of(root);
    if (method != nullptr && method != &own)
      return fail("mixed_captures", "{} and {} are two captures; give one kind at a time",
                  method->product(), own.product());
    method = &own;
  }
  return (method != nullptr ? *method : fallback()).open(roots);
}

}  // namespace cw
