// The tensors beside a level-10 record: inputs.safetensors, or inputs.pt as torch.save writes it.
//
// Opening reads names, types and shapes; bytes are read on demand, except that small files are read
// entirely with the first read.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "capture/value.h"

namespace cw::level10 {

struct TensorFileEntry {
  std::string name;
  DType dtype;
  Shape shape;
};

class TensorFile : public TensorStore {
 public:
  virtual const std::vector<TensorFileEntry>& entries() const = 0;
  /// Index of a tensor; nothing if the file has none of that name.
  std::optional<std::size_t> find(std::string_view name) const;
};

/// Opens {folder}/{stem}.safetensors, or else {folder}/{stem}.pt; null if neither exists.
/// Error codes: "safetensors_malformed", "torch_archive_malformed", "pickle_refused",
/// "pickle_malformed", "truncated", "unreadable".
Result<std::shared_ptr<const TensorFile>> open_tensor_file(int directory, const std::string& folder,
                                                           const std::string& directory_path,
                                                           const std::string& stem);

/// The same for a single file of the given kind.
Result<std::shared_ptr<const TensorFile>> open_safetensors_file(int directory,
                                                                const std::string& path,
                                                                const std::string& full_path);
Result<std::shared_ptr<const TensorFile>> open_torch_archive(int directory, const std::string& path,
                                                             const std::string& full_path);

}  // namespace cw::level10
