// metadata.jsonl of a level-10 dump: what FlashInfer writes about one call.
//
// One JSON object per line, a full record each time: when the API is entered ("inputs_saved"), when
// it returns ("completed"), and for calls in a CUDA graph again at each flush. Source:
// flashinfer/api_logging.py of 0.6.15.post1, _dump_function_inputs and _dump_function_outputs.
//
//   {"function_name": "BatchDecodeWithPagedKVCacheWrapper.run", "module": "flashinfer.decode",
//    "call_sequence": 1, "timestamp": "20261122_192854_644", "process_id": 24882,
//    "input_metadata": {"arg_2": {"type": "tuple", "length": 2,
//                                 "items": [{"type": "torch.Tensor", …, "tensor_key": "arg_2__0"},
//                                 …]},
//                       "kwarg_q_scale": null},
//    "tensor_details": {"arg_1": {"shape": [1, 32, 128], "dtype": "torch.bfloat16", …}, …},
//    "function_signature": "(self, q: torch.Tensor, …) -> …", "execution_status": "completed",
//    "graph_capture": false, "self_id": 139928931080336, …
//
// The JSON is Python's: NaN, Infinity and integers past 64 bits occur.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "tensor/shape.h"

namespace cw::level10 {

/// A value of input_metadata. Tensors are named by their key in the inputs file.
struct RecordedValue;
struct TensorKey {
  std::string key;
  bool operator==(const TensorKey&) const = default;
};
struct RecordedSequence {
  std::vector<RecordedValue> items;
  bool truncated = false;
  bool operator==(const RecordedSequence&) const = default;
};
struct RecordedEnum {
  std::string name;
  std::int64_t value;
  bool operator==(const RecordedEnum&) const = default;
};
struct RecordedOpaque {
  std::string type;
  std::string text;
  bool operator==(const RecordedOpaque&) const = default;
};
struct RecordedValue {
  std::variant<std::monostate, bool, std::int64_t, double, std::string, TensorKey, RecordedSequence,
               RecordedEnum, RecordedOpaque>
      data;
  bool operator==(const RecordedValue&) const = default;
};

struct TensorDetail {
  std::string key;
  std::string dtype;  ///< "torch.int32"
  Shape shape;
  bool operator==(const TensorDetail&) const = default;
};

struct Record {
  std::string function;
  std::string module;
  std::string status;  ///< "inputs_saved", "completed", "graph_capture_pending_flush"
  std::string signature;
  std::string flashinfer_version;
  std::int64_t process = 0;
  std::uint64_t self = 0;  ///< 0 if the call has no self
  bool graph_capture = false;
  /// "simulated": our own engine's mark; FlashInfer writes no such member.
  bool is_simulated = false;
  unsigned flush_index = 0;
  /// Keys "arg_N", "kwarg_NAME", in order.
  std::vector<std::pair<std::string, RecordedValue>> inputs;
  std::vector<TensorDetail> tensors;
  bool operator==(const Record&) const = default;
};

/// Parses one record. `line` must be followed by at least 64 readable bytes.
/// Error code "metadata_malformed".
Result<Record> parse_record(std::string_view line);

/// The last complete record of a file's content (a killed writer leaves half a line at the end).
/// `content` must be followed by at least 64 readable bytes.
Result<Record> parse_last_record(std::string_view content);

/// Reads the last records of many calls. Those of a function repeat: a line that differs from an
/// earlier one only in the call's number, time and folder, which no Record holds, is not parsed
/// again. Not thread-safe.
class RecordReader {
 public:
  /// As parse_last_record(). Calls of equal `function` are expected to be alike.
  Result<std::shared_ptr<const Record>> last_record(std::string_view content, std::size_t function);

 private:
  struct Known {
    std::string head, body;  ///< the line without those three
    std::shared_ptr<const Record> record;
  };
  std::array<Known, 64> known_;
};

}  // namespace cw::level10
