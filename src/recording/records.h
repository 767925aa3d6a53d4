// Records: what the payload of a frame holds. The recorder in the engine writes them and the reader
// of recordings reads them; what both have to know is here and nowhere else. docs/recording.md
// describes every member.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

namespace cw::recording {

/// The version of the format, in the first record. Readers refuse later ones. In version 1, forms
/// had the extents of all tensors.
inline constexpr std::uint64_t format_version = 2;

/// Of a recording's file.
inline constexpr std::string_view extension = ".cbor";

/// Of a form: how many lists may leave their length to its calls, the first ones, and how long such
/// a list may be. Lists are tensors of int32 or int64 with one axis.
constexpr bool is_list_type(std::string_view dtype) {
  return dtype == "int32" || dtype == "int64";
}
inline constexpr std::size_t max_lists = 256;
inline constexpr std::int64_t max_list_length = std::int64_t{1} << 29;

/// What a record says, in its member "record".
enum class RecordKind : std::uint8_t {
  recording,  ///< the first one: format, process
  function,   ///< a hooked function
  signature,  ///< a call signature: the arguments of calls that are alike, without index values
  values,     ///< the content of an index tensor
  calls,      ///< a window of calls
  raised,     ///< a call that is in an earlier window did not return
  exposed,    ///< the engine took a handle of a graph with hooked calls
  idle,       ///< up to here nothing is missing
  killed,     ///< appended by whoever started the process: what it took with it
  end,        ///< the process ended in order
};

/// What a hooked function is to the wrapper object that it is called on.
enum class Role : std::uint8_t {
  function,  ///< there is no wrapper
  init,      ///< it makes one
  plan,      ///< it plans the runs that follow
  method,    ///< any other, `run` among them
};

/// What became of the values of an index tensor.
enum class ValueState : std::uint8_t {
  kept,
  sampled_out,  ///< enough others of such lengths are kept
  lost,         ///< they could not be taken
};

template <typename Enum>
using NamedValue = std::pair<Enum, std::string_view>;

inline constexpr std::array record_kinds{
    NamedValue<RecordKind>{RecordKind::recording, "recording"},
    NamedValue<RecordKind>{RecordKind::function, "site"},
    NamedValue<RecordKind>{RecordKind::signature, "form"},
    NamedValue<RecordKind>{RecordKind::values, "values"},
    NamedValue<RecordKind>{RecordKind::calls, "calls"},
    NamedValue<RecordKind>{RecordKind::raised, "raised"},
    NamedValue<RecordKind>{RecordKind::exposed, "exposed"},
    NamedValue<RecordKind>{RecordKind::idle, "idle"},
    NamedValue<RecordKind>{RecordKind::killed, "killed"},
    NamedValue<RecordKind>{RecordKind::end, "end"},
};
inline constexpr std::array roles{
    NamedValue<Role>{Role::function, "function"},
    NamedValue<Role>{Role::init, "init"},
    NamedValue<Role>{Role::plan, "plan"},
    NamedValue<Role>{Role::method, "method"},
};
inline constexpr std::array value_states{
    NamedValue<ValueState>{ValueState::kept, "kept"},
    NamedValue<ValueState>{ValueState::sampled_out, "sampled_out"},
    NamedValue<ValueState>{ValueState::lost, "lost"},
};

constexpr const auto& names_of(RecordKind) {
  return record_kinds;
}
constexpr const auto& names_of(Role) {
  return roles;
}
constexpr const auto& names_of(ValueState) {
  return value_states;
}

/// As the file has it.
template <typename Enum>
constexpr std::string_view name(Enum value) {
  for (const auto& [known, text] : names_of(value))
    if (known == value) return text;
  return {};
}

/// Nothing for a text that names none of them.
template <typename Enum>
constexpr std::optional<Enum> from_name(std::string_view text) {
  for (const auto& [value, known] : names_of(Enum{}))
    if (known == text) return value;
  return std::nullopt;
}

}  // namespace cw::recording
