// The names that a binding's expressions may use.
#pragma once

#include "bind/association.h"

namespace cw {

/// A recorded value as expressions see it, without tensors: those are None.
Operand to_operand(const Value& value);

/// A reference such as "plan.indptr" resolved in a call's context.
struct Argument {
  const Call* owner = nullptr;           ///< null: there is no such call
  const Value* value = nullptr;          ///< null: the parameter was not given
  const Parameter* parameter = nullptr;  ///< null: not in the printed signature
};
Argument resolve(std::string_view reference, const Binding& binding, const CallInContext& context);

/// call.NAME, plan.NAME, init.NAME, state.NAME, which is the wrapper's attribute _NAME at the call,
/// and input.NAME, an input as the binding makes it (its shape only). Other names are unknown.
class CallNameResolver : public NameResolver {
 public:
  CallNameResolver(const Binding& binding, const CallInContext& context)
      : binding_(binding), context_(context) {}
  Result<Operand> value_of(std::string_view name) const override;
  bool is_given(std::string_view name) const override;

 private:
  const Binding& binding_;
  const CallInContext& context_;
};

}  // namespace cw
