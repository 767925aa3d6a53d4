// A workload: an observation made storable, as a line of workloads/{op_type}/{definition}.jsonl and
// a blob beside it. Schema: flashinfer-bench, flashinfer_bench/data/workload.py and trace.py.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/hash.h"
#include "definition/definition.h"

namespace cw {

struct RandomInput {};
struct AbsentInput {};  ///< optional, and not passed
using StoredInput = std::shared_ptr<const DenseTensor>;

/// An input as stored; Operand is a scalar.
using WorkloadInput = std::variant<RandomInput, AbsentInput, Operand, StoredInput>;

struct Workload {
  const Definition* definition = nullptr;
  std::vector<std::int64_t> axes;     ///< parallel to definition->axes
  std::vector<WorkloadInput> inputs;  ///< parallel to definition->inputs
};

/// Identifies a workload's content: definition, var axes, scalars and stored values. Equal content
/// has equal keys; for tables and checkpoints, never stored in a dataset.
Hash128 content_key(const Workload& workload);

/// The id under which a workload is stored: UUIDv5 of the same content's SHA-256.
std::string workload_id(const Workload& workload);

/// What identifies a stored tensor.
struct TensorDigest {
  DType dtype;
  Shape shape;
  std::string digest;
};
/// The part of an input that identifies a workload; nothing if it is random or absent.
using IdentityInput = std::variant<std::monostate, Operand, TensorDigest>;
/// The same for a workload whose values are elsewhere: `axes` and `inputs` are parallel to the
/// definition's, digests are lower-case hex SHA-256 of the tensors' bytes.
std::string workload_id(const Definition& definition, const std::vector<std::int64_t>& axes,
                        const std::vector<IdentityInput>& inputs);

/// Path of the workload's blob, relative to the dataset's root; empty if it stores no tensor.
std::string blob_path(const Workload& workload, const std::string& id);
/// The blob's bytes: stored inputs in the definition's order.
std::string blob_content(const Workload& workload);
/// The line of the .jsonl file, without a newline.
std::string workload_line(const Workload& workload, const std::string& id);

}  // namespace cw
