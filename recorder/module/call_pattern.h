// Calls of a function that were made before, to see at a glance that one is made again.
//
// An engine's step makes the calls of the step before it, with other data. To describe a call takes
// a microsecond, mostly for code and data that are no longer in the caches; to compare it with the
// one that is expected takes a third of that. Holds the GIL throughout. To find a pattern runs no
// foreign code; to learn one may, as it frees an older one last.
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

/// The parts of a call that are compared.
template <typename Arguments>
struct ComparedCall {
  const HookedFunction& hooked;
  PyObject* self;  ///< null for functions
  std::uint8_t flags;
  const Arguments& arguments;
};

/// What the description of a call depends on: of tensors, their type, device and shape; of numbers
/// and short texts, the value; of other constants, the object itself; of lists, what is in them; of
/// all else, the type. In one piece, in the order in which it is compared.
class CallPattern {
 public:
  /// Nothing for calls that are not compared so: with lists in lists, say, long texts, or tensors
  /// that are more than memory.
  template <typename Arguments>
  static std::optional<CallPattern> of(const Types& types, const ComparedCall<Arguments>& call);
  /// Whether a call has the same description. Never true if it does not. `attributes` are the
  /// wrapper's, if any are read.
  template <typename Arguments>
  bool matches(const TensorLayout& layout, const ComparedCall<Arguments>& call,
               PyObject* attributes) const;

  CallPattern* next = nullptr;  ///< the one that came after it last time
  Recorder::Sent sent;          ///< such a call, with repeats
  std::uint64_t id = 0;         ///< of what is in this place now
  bool has_values = false;      ///< values of such calls may be wanted
  bool was_found = false;       ///< since it was last to be replaced

 private:
  enum class Kind : std::uint8_t { absent, object, type, tensor, list };
  struct Slot {
    Ref name;     ///< of a keyword or attribute; null: by position, or in a list
    Ref content;  ///< the object; its type, of a tensor or list; a weak reference to its type
    Kind kind = Kind::absent;
    std::uint8_t count = 0;  ///< axes of a tensor, items of a list
    std::uint32_t type = 0;  ///< of a tensor, see TensorLayout
    std::uint64_t keys = 0;
    Py_ssize_t place = 0;  ///< of an attribute in its dictionary, as PyDict_Next counts
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
  /// The pattern of a call, and its id; null: none is known.
  struct Found {
    CallPattern* pattern = nullptr;
    std::uint64_t id = 0;
    bool is_resting = false;  ///< nothing was looked for
  };
  template <typename Arguments>
  Found find(const Types& types, const ComparedCall<Arguments>& call);
  /// Of a call that was sent, after `found`: the next one like it will be found, if it came for the
  /// second time.
  template <typename Arguments>
  void learn(const Types& types, const ComparedCall<Arguments>& call, const Found& found,
             const Recorder::Sent& sent, bool has_values);

 private:
  void expect_after(CallPattern& found);

  static constexpr std::size_t max_patterns = 8;  ///< a decoder layer calls linear four times
  /// So often in a row a call is looked for in vain; after that, one in so many is.
  static constexpr std::uint32_t max_misses = 64, rest = 64;
  CallPattern *expected_ = nullptr, *last_ = nullptr;
  std::uint32_t misses_ = 0;
  std::vector<CallPattern> patterns_;  ///< never moves
  std::size_t oldest_ = 0;
  std::uint64_t ids_ = 0;
};

}  // namespace cw::recorder
