// A reader of the pickles that torch.save writes for a dict of tensors. It executes nothing.
//
// Pickle is a program for a small stack machine. Only the opcodes and globals that torch's tensors
// need are known here; anything else is an error, whatever it would have done.
// Sources: Lib/pickletools.py (opcodes); torch/_tensor.py, _reduce_ex_internal, and
// torch/_utils.py, _rebuild_tensor_v2 and _v3 (arguments of the two globals that make tensors).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tensor/shape.h"

namespace cw::level10 {

/// A tensor in a torch archive: a strided view of one of its storages.
struct PickledTensor {
  std::string name;
  DType dtype;
  Shape shape;
  Shape stride;                      ///< in elements, as torch has it
  std::uint64_t storage_offset = 0;  ///< in elements
  std::string storage;               ///< file name under data/
};

/// The tensors of a pickled {str: torch.Tensor}, in order. Values of other types are an error.
/// Error codes: "pickle_refused" for opcodes and globals that have no place in such a file,
/// "pickle_malformed".
Result<std::vector<PickledTensor>> parse_pickled_tensors(std::string_view pickle);

}  // namespace cw::level10
