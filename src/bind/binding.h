// Bindings: which parameter of which call gives which input of a definition, as data.
//
// A binding says, for one kind of definition and one FlashInfer API, where every input comes from:
// a parameter of the call (`call.q`), of the preceding plan() on the same wrapper (`plan.indptr`),
// or of the wrapper's constructor (`init.kv_layout`). data/bindings.yaml is the built-in set; its
// header explains the format, field by field.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "definition/definition.h"
#include "definition/expression.h"
#include "definition/index_checks.h"

namespace cw {

/// A step from a recorded tensor to the one a definition expects: `first plan.indptr[-1]`.
struct Transform {
  enum class Kind {
    part,           ///< element I of a pair; no-op for a tensor
    kv_half,        ///< half I of a (K, V) pair or of a 5-D tensor, with a page axis, in NHD order
    first,          ///< the first N entries of axis 0
    slice,          ///< entries A to B of axis 0: `slice A to B`
    rebase,         ///< every entry minus the first: for an indptr sliced from another
    drop_axis,      ///< removes axis I, which must have extent 1; no-op if the rank is already R
    slice_last,     ///< entries A to B of the last axis; no-op if it has just as many
    flatten_rows,   ///< [a, b, d] -> [a * b, d]
    split_last,     ///< [n, h * d] -> [n, h, d]; no-op with three axes
    unpack_fp4,     ///< two float4 per byte: the last axis becomes twice as long
    last_page_len,  ///< sequence lengths -> entries of the last page, for pages of N
    page_indptr,    ///< sequence lengths -> where each sequence's pages begin, for pages of N
    pages,          ///< a page table, a row a sequence -> its pages in use: `pages of LENGTHS by N`
    expert_ids,     ///< (ids, weights) or packed (id << 16 | weight) -> ids
    broadcast,      ///< a scalar -> a tensor of N equal entries
  };
  Kind kind;
  std::int64_t first_number = 0;
  std::int64_t second_number = 0;
  std::optional<Expression> argument, second_argument;
};

/// Which recorded types an input may have besides its definition's.
enum class OtherTypes : std::uint8_t {
  none,
  cast,  ///< those that are converted: integers of another width, float32 for bfloat16, …
  half,  ///< float16 and bfloat16 for each other, of tensors whose values are random; derived
  any,   ///< all: the recorded type differs on purpose
};

struct InputBinding {
  std::string name;
  std::string from;  ///< "call.q", "plan.indptr"; empty for a scalar with `value`
  std::vector<Transform> transforms;
  std::string other_from;  ///< where `from` is not given; empty: nothing else
  std::vector<Transform> other_transforms;
  bool is_structural = false;  ///< its values affect what the kernel accesses: always stored
  OtherTypes other_types = OtherTypes::none;
  std::optional<Expression> value;          ///< a scalar
  std::optional<Expression> default_value;  ///< a scalar's documented default, when `value` is None
  /// Where that default is documented; of a tensor: the rule by which it is computed, so that it
  /// counts as derived.
  std::string cite;
};

/// A condition on the call under which it gives no workload of this kind.
struct Exclusion {
  Expression when;
  std::string reason;  ///< a key of `reasons`
};

struct Assumption {
  std::string name;
  Expression unless;
  std::string cite;
};

/// A call of another API immediately before or after, in the same process, on an input with the
/// same content.
struct Beside {
  std::string function;
  std::string same;                     ///< parameter of both calls
  Expression when;                      ///< condition on the call itself
  std::optional<Expression> neighbour;  ///< condition on the other one
  std::string reason;
  /// The call is made within the other one, which a recording states.
  bool is_nested = false;
};

/// Inputs that give the lengths of a batch's sequences, in tokens.
struct Sequences {
  std::string indptr, last_page;
  std::int64_t min = 0;  ///< minimum tokens of a sequence that is traffic; 0: any
};

/// Which pages of a pool are used: the values of an index tensor, each covering `per` entries.
struct PoolAxis {
  std::string axis;
  std::string used_by;
  std::optional<Expression> entries_per_page;
};

/// A constant that appears only in a definition's name or reference source.
struct NamedConstant {
  std::string name;
  bool in_reference = false;
  std::string pattern;  ///< a regular expression with one group
};

struct Binding {
  std::string id;
  std::string op_type;
  std::vector<std::string> needs, lacks;     ///< inputs that the definition must have, or must not
  std::vector<std::string> apis;             ///< names that fi_api: and api: tags may have
  std::string unbindable;                    ///< why no call can give these workloads; else empty
  std::string note;                          ///< what a user waiting for such calls should know
  std::string function;                      ///< of the call that counts: "Class.run" or "function"
  std::string plan_function, init_function;  ///< of the wrapper, or empty
  std::string module_contains;               ///< distinguishes functions of the same name
  std::map<std::string, std::vector<std::string>> positional;  ///< names for *args: "call", "plan"
  std::vector<InputBinding> inputs;
  /// What scalars say about axes; an axis may occur several times.
  std::vector<std::pair<std::string, Expression>> axes;
  std::vector<NamedConstant> constants;
  std::optional<Expression> only_if;
  std::vector<Exclusion> exclusions;
  std::optional<Sequences> sequences;
  std::vector<IndexCheck> checks;
  std::vector<Assumption> assumptions;
  std::vector<PoolAxis> pools;
  std::optional<Beside> beside;

  const InputBinding* input(std::string_view name) const;
};

class BindingSet {
 public:
  /// Parses YAML. Error code "bindings_invalid"; the message names the entry and the field.
  static Result<BindingSet> parse(const std::string& yaml);
  /// From a file; with an empty path, the built-in ones. Error codes: as above, and those of
  /// reading.
  static Result<BindingSet> load(const std::filesystem::path& path);

  const std::vector<Binding>& bindings() const { return bindings_; }
  /// A human-readable explanation of an exclusion's reason; empty if there is no such reason.
  std::string_view explain(std::string_view reason) const;
  /// Why no binding reads a function's calls; empty if nothing is known of it.
  std::string_view why_unbound(std::string_view function) const;
  /// The bindings that serve a definition, the first one first: several where several APIs do the
  /// same, one where it is unbindable. Error code "no_binding"; never empty.
  Result<std::vector<const Binding*>> serving(const Definition& definition) const;
  /// The index checks of its definitions, for callers that need no bindings. Refers to this set.
  IndexChecksOf index_checks() const;

 private:
  std::vector<Binding> bindings_;
  std::map<std::string, std::string, std::less<>> reasons_, unbound_;
};

/// data/bindings.yaml as it was at build time.
std::string_view built_in_bindings();

}  // namespace cw
