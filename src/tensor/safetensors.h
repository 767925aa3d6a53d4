// The safetensors container: an 8-byte little-endian header length, a JSON header, then the bytes.
//
//   {"__metadata__": {…}, "arg_1": {"dtype": "I32", "shape": [2], "data_offsets": [0, 8]}, …
//
// Format: https://github.com/huggingface/safetensors (README, "Format"). The checks are that
// implementation's: a header of at most 100 MB, offsets that lie in the file, do not overlap, leave
// no hole and agree with shape and dtype.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "tensor/shape.h"

namespace cw {

struct SafetensorsEntry {
  std::string name;
  DType dtype;
  Shape shape;  ///< of float4 as torch has it, in bytes of two values: the file's last axis, halved
  std::uint64_t begin;  ///< offset of the first byte in the *file*
  std::uint64_t end;    ///< one past the last
};

/// Length of the JSON header from the file's first 8 bytes.
/// Error code "safetensors_malformed" when it cannot be that of a file of `file_size` bytes.
Result<std::uint64_t> safetensors_header_size(std::string_view first_bytes,
                                              std::uint64_t file_size);

/// Parses and checks a JSON header. `header` must be followed by at least 64 readable bytes.
/// Entries come in the header's order.
Result<std::vector<SafetensorsEntry>> parse_safetensors_header(std::string_view header,
                                                               std::uint64_t file_size);

/// A whole file in memory: the same tensors in the same order give the same bytes.
std::string write_safetensors(
    const std::vector<std::pair<std::string, const DenseTensor*>>& tensors);

/// The entries of a file on disk; reads the header only. Errors name the file.
Result<std::vector<SafetensorsEntry>> read_safetensors_header(const std::string& path);

}  // namespace cw
