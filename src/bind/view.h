// A recorded tensor as a definition's input: after the binding's transforms, read lazily.
#pragma once

#include <functional>
#include <memory>

#include "bind/association.h"

namespace cw {

struct InputView {
  DType dtype;
  /// unknown_extent where an extent depends on values that were not kept; may be told (told.h).
  Shape shape;
  /// Reads the values, dense. May be called from several threads; each call may read again.
  std::function<Result<std::shared_ptr<const DenseTensor>>()> load;
  bool is_derived = false;  ///< the KV layout was assumed to be FlashInfer's default
};

/// The view of one input in a call's context. `context` and `binding` must outlive the view's use.
/// Error codes: "input_missing" (not passed, or not recorded), "input_shape" (a transform does
/// not apply), depends_on_told (and what it depends on is noted in the context).
Result<InputView> make_view(const InputBinding& input, const Binding& binding,
                            const CallInContext& context);

}  // namespace cw
