#include "support/dump_writer.h"

#include <fstream>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "tensor/safetensors.h"

namespace cw::testing {
namespace {

constexpr const char* decode_plan_signature =
    "(self, indptr: torch.Tensor, indices: torch.Tensor, last_page_len: torch.Tensor, num_qo_heads: int, num_kv_heads: "
    "int, "
    "head_dim: int, page_size: int, *deprecated_positional_args: Any, **kwargs: Any) -> None";
constexpr const char* decode_run_signature =
    "(self, q: torch.Tensor, paged_kv_cache: Union[torch.Tensor, Tuple[torch.Tensor, torch.Tensor]], *args, q_scale: "
    "Optional[float] = None, k_scale: Optional[float] = None, v_scale: Optional[float] = None, out: "
    "Optional[torch.Tensor] = None, "
    "lse: Optional[torch.Tensor] = None, return_lse: bool = False, enable_pdl: Optional[bool] = None, window_left: "
    "Optional[int] = "
    "None, sinks: Optional[torch.Tensor] = None, q_len_per_req: Optional[int] = None) -> Union[torch.Tensor, "
    "Tuple[torch.Tensor, "
    "torch.Tensor]]";
constexpr const char* paged_plan_signature =
    "(self, qo_indptr: torch.Tensor, paged_kv_indptr: torch.Tensor, paged_kv_indices: torch.Tensor, "
    "paged_kv_last_page_len: "
    "torch.Tensor, num_qo_heads: int, num_kv_heads: int, head_dim_qk: int, page_size: int, head_dim_vo: Optional[int] "
    "= None, "
    "custom_mask: Optional[torch.Tensor] = None, packed_custom_mask: Optional[torch.Tensor] = None, causal: bool = "
    "False, "
    "pos_encoding_mode: str = 'NONE', use_fp16_qk_reduction: bool = False, sm_scale: Optional[float] = None, "
    "window_left: int = -1, "
    "logits_soft_cap: Optional[float] = None) -> None";
constexpr const char* paged_run_signature =
    "(self, q: torch.Tensor, paged_kv_cache: Union[torch.Tensor, Tuple[torch.Tensor, torch.Tensor]], *args, q_scale: "
    "Optional[float] = None, k_scale: Optional[float] = None, v_scale: Optional[float] = None, return_lse: bool = "
    "False, "
    "window_left: Optional[int] = None, sinks: Optional[torch.Tensor] = None) -> torch.Tensor";
constexpr const char* ragged_plan_signature =
    "(self, qo_indptr: torch.Tensor, kv_indptr: torch.Tensor, num_qo_heads: int, num_kv_heads: int, head_dim_qk: int, "
    "head_dim_vo: "
    "Optional[int] = None, custom_mask: Optional[torch.Tensor] = None, packed_custom_mask: Optional[torch.Tensor] = "
    "None, causal: "
    "bool = False, pos_encoding_mode: str = 'NONE', window_left: int = -1, logits_soft_cap: Optional[float] = None, "
    "sm_scale: "
    "Optional[float] = None) -> None";
constexpr const char* ragged_run_signature =
    "(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *args, return_lse: bool = False) -> torch.Tensor";
constexpr const char* mla_plan_signature =
    "(self, qo_indptr: torch.Tensor, kv_indptr: torch.Tensor, kv_indices: torch.Tensor, kv_len_arr: torch.Tensor, "
    "num_heads: int, "
    "head_dim_ckv: int, head_dim_kpe: int, page_size: int, causal: bool, sm_scale: float, q_data_type: torch.dtype, "
    "kv_data_type: "
    "torch.dtype, use_profiler: bool = False) -> None";
constexpr const char* mla_run_signature =
    "(self, q_nope: torch.Tensor, q_pe: torch.Tensor, ckv_cache: torch.Tensor, kpe_cache: torch.Tensor, out: "
    "Optional[torch.Tensor] "
    "= None, return_lse: bool = False, *, ckv_scale: Optional[float] = None, kpe_scale: Optional[float] = None) -> "
    "torch.Tensor";
constexpr const char* rmsnorm_signature =
    "(input: torch.Tensor, weight: torch.Tensor, eps: float = 1e-06, out: Optional[torch.Tensor] = None, enable_pdl: "
    "Optional[bool] = "
    "None) -> torch.Tensor";
constexpr const char* sampling_signature =
    "(probs: torch.Tensor, top_k: Union[torch.Tensor, int], top_p: Union[torch.Tensor, float], indices: "
    "Optional[torch.Tensor] = "
    "None, filter_apply_order: str = 'top_k_first', deterministic: bool = True) -> torch.Tensor";

std::string torch_name(DType dtype) {
  return fmt::format("torch.{}", trace_name(dtype));
}

std::string detail(const DumpTensor& tensor) {
  Shape stride(tensor.shape.size(), 1);
  for (std::size_t i = tensor.shape.size(); i-- > 1;) stride[i - 1] = stride[i] * tensor.shape[i];
  return fmt::format(R"("shape": [{}], "dtype": "{}", "stride": [{}], "device": "cpu")", fmt::join(tensor.shape, ", "),
                     torch_name(tensor.dtype), fmt::join(stride, ", "));
}

std::string item(const DumpTensor& tensor, const std::string& key) {
  return fmt::format(
      R"({{"type": "torch.Tensor", {}, "requires_grad": false, "is_contiguous": true, "tensor_key": "{}"}})",
      detail(tensor), key);
}

std::uint64_t size_of(const DumpTensor& tensor) {
  return *byte_count(tensor.dtype, *element_count(tensor.shape));
}

// A safetensors file whose tensors without bytes are holes.
void write_tensors(const std::filesystem::path& path,
                   const std::vector<std::pair<std::string, const DumpTensor*>>& tensors) {
  std::string header = "{";
  std::uint64_t position = 0;
  for (const auto& [name, tensor] : tensors) {
    header += fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                          header.size() > 1 ? "," : "", name, safetensors_name(tensor->dtype),
                          fmt::join(tensor->shape, ","), position, position + size_of(*tensor));
    position += size_of(*tensor);
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = header.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&length), sizeof length);
  file << header;
  std::uint64_t at = sizeof length + length;
  for (const auto& [name, tensor] : tensors) {
    file.seekp(static_cast<std::streamoff>(at));
    file << tensor->bytes;
    at += size_of(*tensor);
  }
  file.close();
  std::filesystem::resize_file(path, at);
}

DumpLiteral number(std::int64_t value) {
  return {std::to_string(value)};
}
const DumpLiteral bfloat16{R"({"type": "torch.dtype", "value": "torch.bfloat16"})"};
const DumpLiteral null{"null"};

DumpTensor activations(Shape shape) {
  return {DType::bfloat16, std::move(shape)};
}

DumpPair cache(const Heads& heads) {
  const DumpTensor half = heads.page_size == 1 ? activations({heads.pool, heads.kv, heads.dim})
                                               : activations({heads.pool, heads.page_size, heads.kv, heads.dim});
  return {half, half};
}

}  // namespace

DumpTensor int32_tensor(const std::vector<std::int64_t>& values) {
  DenseTensor dense = from_integers(DType::int32, {static_cast<std::int64_t>(values.size())}, values);
  return {dense.dtype, std::move(dense.shape), std::move(dense.bytes)};
}

DumpWriter::DumpWriter(std::filesystem::path folder, int process) : folder_(std::move(folder)), process_(process) {
  std::filesystem::create_directories(folder_);
}

std::string DumpWriter::write(const DumpCall& call) {
  const int sequence = ++sequences_[call.function];
  const int seconds = clock_ / 1000;
  const std::string timestamp = fmt::format("20261122_{:02}{:02}{:02}_{:03}", 10 + seconds / 3600, seconds / 60 % 60,
                                            seconds % 60, clock_ % 1000);
  const std::string name = fmt::format("{}_pid{}_{}_call{:04}", timestamp, process_, call.function, sequence);
  const std::filesystem::path folder = folder_ / name;
  std::filesystem::create_directory(folder);

  std::vector<std::string> metadata, details, keys;
  std::vector<std::pair<std::string, const DumpTensor*>> tensors;
  const auto add = [&](const std::string& key, const DumpTensor& tensor) {
    tensors.emplace_back(key, &tensor);
    details.push_back(fmt::format(R"("{}": {{{}}})", key, detail(tensor)));
    keys.push_back(fmt::format("\"{}\"", key));
  };
  if (call.self != 0)
    metadata.push_back(fmt::format(R"("arg_0": {{"type": "{0}", "repr": "<{1}.{0} object at {2:#x}>"}})",
                                   call.function.substr(0, call.function.find('.')), call.module, call.self));
  for (const auto& [key, value] : call.arguments) {
    if (const auto* tensor = std::get_if<DumpTensor>(&value)) add(key, *tensor);
    if (const auto* literal = std::get_if<DumpLiteral>(&value))
      metadata.push_back(fmt::format("\"{}\": {}", key, literal->json));
    if (const auto* pair = std::get_if<DumpPair>(&value)) {
      metadata.push_back(
          fmt::format(R"("{0}": {{"type": "tuple", "length": 2, "items": [{1}, {2}], "truncated": false}})", key,
                      item(pair->first, key + "__0"), item(pair->second, key + "__1")));
      add(key + "__0", pair->first);
      add(key + "__1", pair->second);
    }
  }
  if (!tensors.empty()) write_tensors(folder / "inputs.safetensors", tensors);

  const auto record = [&](const std::string& status) {
    return fmt::format(
        R"({{"function_name": "{}", "module": "{}", "call_sequence": {}, "timestamp": "{}", "process_id": {}, "input_metadata": {{{}}}, )"
        R"("output_metadata": {{}}, "tensor_info": {{"input_tensor_keys": [{}], "output_tensor_keys": [], "input_size_bytes": 0, )"
        R"("input_size_mb": 0.0}}, "tensor_details": {{{}}}, "tensor_format": "safetensors", "function_signature": "{}", "versions": )"
        R"({{"torch": "2.11.0+cu130", "python": "3.12.3 (main) [GCC 13.3.0]", "flashinfer": "0.6.15.post1"}}, "execution_status": "{}", )"
        R"("graph_capture": {}{}, "dump_dir": "/dumps/{}"}})"
        "\n",
        call.function, call.module, sequence, timestamp, process_, fmt::join(metadata, ", "), fmt::join(keys, ", "),
        fmt::join(details, ", "), call.signature, status, call.graph_capture,
        call.self != 0 ? fmt::format(R"(, "self_id": {})", call.self) : "", name);
  };
  std::string records = record("inputs_saved");
  if (call.status != "inputs_saved") records += record(call.status);
  std::ofstream(folder / "metadata.jsonl") << records;
  if (call.in_session) std::ofstream(folder_ / "session.jsonl", std::ios::app) << records;
  return name;
}

DumpCall decode_plan(std::uint64_t self, const std::vector<std::int64_t>& indptr,
                     const std::vector<std::int64_t>& indices, Heads heads) {
  return {std::string(decode_class) + ".plan",
          "flashinfer.decode",
          decode_plan_signature,
          self,
          {{"arg_1", int32_tensor(indptr)},
           {"arg_2", int32_tensor(indices)},
           {"arg_3", int32_tensor(std::vector<std::int64_t>(indptr.size() - 1, 1))},
           {"arg_4", number(heads.qo)},
           {"arg_5", number(heads.kv)},
           {"arg_6", number(heads.dim)},
           {"arg_7", number(heads.page_size)},
           {"kwarg_data_type", bfloat16},
           {"kwarg_q_data_type", bfloat16},
           {"kwarg_non_blocking", DumpLiteral{"true"}}}};
}

DumpCall decode_run(std::uint64_t self, std::int64_t batch, Heads heads) {
  return {std::string(decode_class) + ".run",
          "flashinfer.decode",
          decode_run_signature,
          self,
          {{"arg_1", activations({batch, heads.qo, heads.dim})},
           {"arg_2", cache(heads)},
           {"kwarg_q_scale", null},
           {"kwarg_k_scale", null},
           {"kwarg_v_scale", null}}};
}

DumpCall paged_plan(std::uint64_t self, const std::vector<std::int64_t>& qo_indptr,
                    const std::vector<std::int64_t>& indptr, const std::vector<std::int64_t>& indices, Heads heads) {
  return {std::string(paged_class) + ".plan",
          "flashinfer.prefill",
          paged_plan_signature,
          self,
          {{"arg_1", int32_tensor(qo_indptr)},
           {"arg_2", int32_tensor(indptr)},
           {"arg_3", int32_tensor(indices)},
           {"arg_4", int32_tensor(std::vector<std::int64_t>(indptr.size() - 1, 1))},
           {"arg_5", number(heads.qo)},
           {"arg_6", number(heads.kv)},
           {"arg_7", number(heads.dim)},
           {"arg_8", number(heads.page_size)},
           {"kwarg_q_data_type", bfloat16},
           {"kwarg_custom_mask", null}}};
}

DumpCall paged_run(std::uint64_t self, std::int64_t tokens, bool return_lse, Heads heads) {
  DumpCall call{std::string(paged_class) + ".run",
                "flashinfer.prefill",
                paged_run_signature,
                self,
                {{"arg_1", activations({tokens, heads.qo, heads.dim})},
                 {"arg_2", cache(heads)},
                 {"kwarg_k_scale", null},
                 {"kwarg_v_scale", null}}};
  if (return_lse) call.arguments.emplace_back("kwarg_return_lse", DumpLiteral{"true"});
  return call;
}

DumpCall ragged_plan(std::uint64_t self, const std::vector<std::int64_t>& indptr, Heads heads) {
  return {std::string(ragged_class) + ".plan",
          "flashinfer.prefill",
          ragged_plan_signature,
          self,
          {{"arg_1", int32_tensor(indptr)},
           {"arg_2", int32_tensor(indptr)},
           {"arg_3", number(heads.qo)},
           {"arg_4", number(heads.kv)},
           {"arg_5", number(heads.dim)},
           {"kwarg_q_data_type", bfloat16}}};
}

DumpCall ragged_run(std::uint64_t self, std::int64_t tokens, bool return_lse, Heads heads) {
  DumpCall call{std::string(ragged_class) + ".run",
                "flashinfer.prefill",
                ragged_run_signature,
                self,
                {{"arg_1", activations({tokens, heads.qo, heads.dim})},
                 {"arg_2", activations({tokens, heads.kv, heads.dim})},
                 {"arg_3", activations({tokens, heads.kv, heads.dim})}}};
  if (return_lse) call.arguments.emplace_back("kwarg_return_lse", DumpLiteral{"true"});
  return call;
}

DumpCall mla_plan(std::uint64_t self, const std::vector<std::int64_t>& qo_indptr,
                  const std::vector<std::int64_t>& indptr, const std::vector<std::int64_t>& indices,
                  const std::vector<std::int64_t>& lengths, bool causal, double sm_scale, std::int64_t page_size) {
  return {std::string(mla_class) + ".plan",
          "flashinfer.mla._core",
          mla_plan_signature,
          self,
          {{"arg_1", int32_tensor(qo_indptr)},
           {"arg_2", int32_tensor(indptr)},
           {"arg_3", int32_tensor(indices)},
           {"arg_4", int32_tensor(lengths)},
           {"arg_5", number(16)},
           {"arg_6", number(512)},
           {"arg_7", number(64)},
           {"arg_8", number(page_size)},
           {"arg_9", DumpLiteral{causal ? "true" : "false"}},
           {"arg_10", DumpLiteral{fmt::format("{}", sm_scale)}},
           {"arg_11", bfloat16},
           {"arg_12", bfloat16}}};
}

DumpCall mla_run(std::uint64_t self, std::int64_t tokens, std::int64_t pages, std::int64_t page_size) {
  return {std::string(mla_class) + ".run",
          "flashinfer.mla._core",
          mla_run_signature,
          self,
          {{"arg_1", activations({tokens, 16, 512})},
           {"arg_2", activations({tokens, 16, 64})},
           {"arg_3", activations({pages, page_size, 512})},
           {"arg_4", activations({pages, page_size, 64})},
           {"kwarg_return_lse", DumpLiteral{"false"}}}};
}

DumpCall rmsnorm(std::int64_t rows, std::int64_t hidden) {
  return {"rmsnorm",
          "flashinfer.norm",
          rmsnorm_signature,
          0,
          {{"arg_0", activations({rows, hidden})},
           {"arg_1", activations({hidden})},
           {"arg_2", DumpLiteral{"1e-05"}},
           {"arg_3", null},
           {"arg_4", null}}};
}

DumpCall sampling(const std::vector<std::int64_t>& top_k, const std::vector<float>& top_p, std::int64_t vocabulary) {
  const auto batch = static_cast<std::int64_t>(top_k.size());
  DumpTensor p{
      DType::float32, {batch}, std::string(reinterpret_cast<const char*>(top_p.data()), top_p.size() * sizeof(float))};
  return {"top_k_top_p_sampling_from_probs",
          "flashinfer.sampling",
          sampling_signature,
          0,
          {{"arg_0", DumpTensor{DType::float32, {batch, vocabulary}}},
           {"arg_1", int32_tensor(top_k)},
           {"arg_2", std::move(p)},
           {"kwarg_filter_apply_order", DumpLiteral{"\"joint\""}}}};
}

}  // namespace cw::testing
