// A hooked function.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "call_pattern.h"
#include "core/recorder.h"
#include "core/sampling.h"
#include "python.h"

namespace cw::recorder {

/// A parameter whose values are wanted.
struct ContentRule {
  std::uint16_t name;    ///< the parameter
  bool is_taken = true;  ///< false: it only bounds others
  /// Parameters whose last element says how many elements count, in order of preference.
  std::vector<std::uint16_t> bounds;
  /// Of a page table: the parameters with the sequences' lengths, and with the pages themselves,
  /// whose page size is their last axis but one, or last but two in the layout NHD.
  struct Table {
    std::uint16_t lengths, pages;
    std::optional<std::uint16_t> layout;  ///< says "NHD" or "HND"; nothing: they have no heads
    bool is_nhd = false;                  ///< where it is not given
  };
  std::optional<Table> table;
};

struct HookedFunction {
  Json description;  ///< as Recorder::add_function takes it
  Ref function;
  Ref owner, owners_name;  ///< another module's dict and the name in it, looked up at each call;
                           ///< null: `function` is called
  PyObject* stand_in = nullptr;  ///< what Python calls, if set
  std::vector<Ref> names;        ///< interned, so that most compare equal by address
  std::size_t parameters = 0;
  bool has_self = false;
  /// Attributes of self, and the names they are recorded under.
  using Attributes = std::vector<std::pair<Ref, std::uint16_t>>;
  Attributes state;
  std::vector<ContentRule> rules;
  /// Parameters whose attributes count as arguments.
  std::vector<std::pair<std::uint16_t, Attributes>> objects;
  std::uint32_t number = 0;
  bool is_plan = false;
  std::uint64_t calls = 0;  ///< whose values were wanted
  std::uint64_t plans = 0;  ///< how many of them were the first under a plan
  std::uint64_t epoch = 0;  ///< of the last call whose values were wanted

  /// Whether values of its next call are taken. Calls other than plans may come once per layer,
  /// each with the same values: of those, the first under a plan counts, and of all calls some, for
  /// functions that no plan precedes. Of both, each octave gives as many as the previous one.
  bool takes_values(std::uint64_t now) const {
    constexpr unsigned octaves_of_plans = 8, octaves_of_calls = 9;
    return is_plan || (now != epoch && is_in_sample(plans + 1, octaves_of_plans)) ||
           is_in_sample(calls + 1, octaves_of_calls);
  }
  void count_values(std::uint64_t now) {
    ++calls;
    if (now != epoch) ++plans;
    epoch = now;
  }

  /// Of its calls of which no values were taken.
  CallPatterns patterns;
  bool has_patterns() const { return objects.empty() && !is_plan; }

  /// What `owner` has now; null if that is not to be called in place of `function`.
  Ref replacement() const {
    PyObject* found = PyDict_GetItemWithError(owner.get(), owners_name.get());
    if (found == nullptr && PyErr_Occurred() != nullptr) PyErr_Clear();
    return Ref::borrowed(found != stand_in ? found : nullptr);
  }

  /// Whether an object among the arguments may hold it.
  bool is_within_object(std::uint16_t name) const {
    for (const auto& [parameter, attributes] : objects)
      for (const auto& [attribute, held] : attributes)
        if (held == name) return true;
    return false;
  }

  const ContentRule* rule(std::uint16_t name) const {
    for (const ContentRule& candidate : rules)
      if (candidate.name == name) return &candidate;
    return nullptr;
  }
};

}  // namespace cw::recorder
