// Calls of a function that were made before, to see at a glance that one is made again.
//
// An engine's step makes the calls of the step before it, with other data. To describe a call takes
// a microsecond, mostly for code and data that are no longer in the caches; to compare it with the
// one that is expected takes a third of that. Holds the GIL throughout and runs no foreign code,
// except that learn() may free what an older pattern referred to.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/recorder.h"
#include "python.h"
#include "types.h"

namespace cw::recorder {

struct HookedFunction;

/// What the description of a call depends on: of tensors, their type, device and shape; of numbers,
/// texts and the like, the object itself; of lists, what is in them; of all else, the type. In one
/// piece, in the order in which it is compared.
class CallPattern {
 public:
  /// Nothing for calls that are not compared so, like those with lists in lists.
  template <typename Arguments>
  static std::optional<CallPattern> of(const Types& types, const HookedFunction& hooked,
                                       PyObject* self, std::uint8_t flags,
                                       const Arguments& arguments);
  /// Whether a call has the same description. Never true if it does not; false also where two
  /// objects are equal but not one.
  template <typename Arguments>
  bool matches(const TensorLayout& layout, const HookedFunction& hooked, PyObject* self,
               std::uint8_t flags, const Arguments& arguments) const;

  CallPattern* next = nullptr;  ///< the one that came after it last time
  Recorder::Sent sent;          ///< such a call, with repeats

 private:
  enum class Kind : std::uint8_t { absent, object, type, tensor, list };
  struct Slot {
    Ref name;     ///< of a keyword or attribute; null: by position, or in a list
    Ref content;  ///< the object, or its type
    Kind kind = Kind::absent;
    std::uint8_t count = 0;  ///< axes of a tensor, items of a list
    std::uint32_t type = 0;  ///< of a tensor, see TensorLayout
    Py_ssize_t place = 0;    ///< of an attribute in its dictionary, as PyDict_Next counts
  };
  class Builder;
  class Comparison;

  static constexpr std::size_t max_slots = 24, max_extents = 32;
  const PyObject* self_ = nullptr;
  std::uint8_t flags_ = 0, arguments_ = 0, slots_used_ = 0, extents_used_ = 0;
  std::array<std::int64_t, max_extents> extents_{};
  std::array<Slot, max_slots> slots_;  ///< arguments, then the wrapper's attributes
};

/// A function's patterns, the last few. Only where `types.layout` is known.
class CallPatterns {
 public:
  /// The pattern of this call; null: none is known. Valid until learn().
  template <typename Arguments>
  CallPattern* find(const Types& types, const HookedFunction& hooked, PyObject* self,
                    std::uint8_t flags, const Arguments& arguments);
  /// Of a call that was sent: the next one like it will be found, if it came for the second time.
  template <typename Arguments>
  void learn(const Types& types, const HookedFunction& hooked, PyObject* self, std::uint8_t flags,
             const Arguments& arguments, const Recorder::Sent& sent);

 private:
  void expect_after(CallPattern& found);

  static constexpr std::size_t max_patterns = 8;  ///< a decoder layer calls linear four times
  CallPattern *expected_ = nullptr, *last_ = nullptr;
  std::vector<CallPattern> patterns_;  ///< never moves
  std::size_t oldest_ = 0;
};

}  // namespace cw::recorder
