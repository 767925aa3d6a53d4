// A function that is hooked.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/recorder.h"
#include "python.h"

namespace cw::recorder {

/// Of which parameter the values are wanted.
struct ContentRule {
  std::uint16_t name;    ///< the parameter
  bool is_taken = true;  ///< false: it only bounds others
  /// Parameters whose last element says how much counts, the best first.
  std::vector<std::uint16_t> bounds;
};

struct HookedFunction {
  Json description;  ///< as Recorder::add_site takes it
  Ref function;
  Ref owner, owners_name;  ///< another module's names, of which this one is called as it is then;
                           ///< null: `function` is
  PyObject* stand_in = nullptr;  ///< what Python calls, if it was told
  std::vector<Ref> names;        ///< interned, so that most compare by address
  std::size_t parameters = 0;
  bool has_self = false;
  /// Attributes of self, and the names they are recorded by.
  std::vector<std::pair<Ref, std::uint16_t>> state;
  std::vector<ContentRule> rules;
  std::uint32_t number = 0;
  bool is_plan = false;
  std::uint64_t calls = 0;  ///< with values that are wanted

  std::uint64_t epoch = 0;  ///< when values were taken last

  /// Of the calls that are no plans there may be one a layer, with the same values in each. Of
  /// those, one a plan is taken; and of all, the first and then an ever smaller part, so that each
  /// octave of calls gives as many as the last.
  bool takes_values(std::uint64_t now) {
    constexpr unsigned first_octaves = 9;
    const auto octave = static_cast<unsigned>(std::bit_width(calls++));
    const bool is_taken = is_plan || now != epoch || octave <= first_octaves ||
                          (calls & ((std::uint64_t{1} << (octave - first_octaves)) - 1)) == 0;
    if (is_taken) epoch = now;
    return is_taken;
  }

  /// What `owner` has now; null when that is nothing to call in `function`'s place.
  Ref replacement() const {
    PyObject* found = PyDict_GetItemWithError(owner.get(), owners_name.get());
    if (found == nullptr && PyErr_Occurred() != nullptr) PyErr_Clear();
    return Ref::borrowed(found != stand_in ? found : nullptr);
  }

  const ContentRule* rule(std::uint16_t name) const {
    for (const ContentRule& candidate : rules)
      if (candidate.name == name) return &candidate;
    return nullptr;
  }
};

}  // namespace cw::recorder
