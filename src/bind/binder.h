// Turns a call in its context into observations: values for every axis and input of a definition.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/hash.h"
#include "bind/association.h"
#include "bind/view.h"

namespace cw {

/// One API that gives workloads of a definition, and where each input comes from.
struct Provider {
  const Binding* binding;
  std::vector<const InputBinding*> inputs;  ///< as definition->inputs; null: optional, not bound
  /// From the definition's name or reference.
  std::vector<std::pair<std::string, Operand>> constants;
};

/// A definition and all that serves it, in the order of the bindings; never none.
struct Target {
  const Definition* definition;
  std::vector<Provider> providers;
};

/// Why a call gave no observation, or none that makes a workload.
struct Rejection {
  std::string reason;  ///< a reason of the bindings, or one of the codes below
  std::string detail;
};

/// One input of an observation.
struct ObservedInput {
  std::variant<std::monostate,  ///< an optional input that the call did not pass
               Operand,         ///< a scalar
               InputView>       ///< a tensor
      data;
  /// Its values, converted to the definition's type; set if they steer the kernel.
  std::shared_ptr<const DenseTensor> values;
};

struct Observation {
  const Target* target = nullptr;
  const Provider* provider = nullptr;  ///< of the target's
  /// Parallel to definition->axes, const ones included; may be told (told.h).
  std::vector<std::int64_t> axes;
  std::vector<ObservedInput> inputs;  ///< parallel to definition->inputs
  std::vector<std::string> derived;   ///< what was not recorded: names of scalars and assumptions
  CallInContext context;              ///< keeps alive what the inputs' loaders read from
  /// The number of real sequences in a padded batch; nothing: all, or unknown.
  std::optional<std::int64_t> sequences;
  /// Does not look like traffic; only with BinderOptions::includes_suspicious.
  bool is_suspicious = false;
  /// Set if the call fits as far as the capture kept it, but that is not all of it: some `axes` may
  /// be unknown_extent, some values cannot be loaded, and it makes no workload. The codes of
  /// is_not_kept().
  std::optional<Rejection> unseen;
};

// Codes: captured_in_cuda_graph, not_traffic, suspicious_dummy, before_traffic, plan_missing,
// plan_in_doubt, no_definition_fits, no_definition, other_stage, axes_disagree, axes_unknown,
// input_missing, input_shape, dtype, scalar_unknown, optional_unknown, structure, constraint,
// unnamed_arguments, and the codes of reading files.

struct BindResult {
  std::vector<Observation> observations;
  std::optional<Rejection> rejection;  ///< set when there are no observations
};

/// Hash of everything in a call's record except its tensors' values, its time and its position in
/// the order.
Hash128 shape_key(const CallInContext& context);

struct BinderOptions {
  /// Also observe calls that do not look like traffic.
  bool includes_suspicious = false;
};

class Binder {
 public:
  /// `definitions` and `bindings` must outlive the binder. Definitions without a binding are left
  /// out.
  Binder(const std::vector<Definition>& definitions, const BindingSet& bindings,
         BinderOptions options = {});

  /// Binds a call to every definition it fits. Const, and safe from several threads. With
  /// CallInContext::symbols, the result is right only if nothing was met.
  BindResult bind(const CallInContext& context) const;

  /// Whether the outcome of binding such a call depends on no tensor values besides those of its
  /// plan: then two calls under one plan with equal shape_key() have the same outcome. True for
  /// attention, whose index tensors come from the plan, and for norms; false for sampling and MoE.
  bool depends_on_shapes_only(const std::string& function) const;

  const std::vector<Target>& targets() const { return targets_; }

 private:
  struct Attempt;
  struct Route {
    const Target* target;
    const Provider* provider;
  };
  void try_binding(const CallInContext& context, const Binding& binding,
                   std::span<const Route> routes, Attempt& attempt) const;

  const BindingSet& bindings_;
  const BinderOptions options_;
  std::vector<Target> targets_;
  struct FunctionRoutes {
    std::vector<Route> routes;  ///< grouped by binding
    bool depends_on_shapes_only = true;
  };
  std::map<std::string, FunctionRoutes, std::less<>> by_function_;
};

}  // namespace cw
