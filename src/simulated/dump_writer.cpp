#include "simulated/dump_writer.h"

#include <ctime>
#include <fstream>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "base/json.h"
#include "tensor/safetensors.h"

namespace cw::simulated {
namespace {

// As Python prints them for FlashInfer 0.6.15.post1.
constexpr const char* decode_plan_signature =
    "(self, indptr: torch.Tensor, indices: torch.Tensor, last_page_len: torch.Tensor, "
    "num_qo_heads: int, num_kv_heads: int, head_dim: int, page_size: int, "
    "*deprecated_positional_args: Any, **kwargs: Any) -> None";
constexpr const char* decode_run_signature =
    "(self, q: torch.Tensor, paged_kv_cache: Union[torch.Tensor, Tuple[torch.Tensor, "
    "torch.Tensor]], *args, q_scale: Optional[float] = None, k_scale: Optional[float] = None, "
    "v_scale: Optional[float] = None, out: Optional[torch.Tensor] = None, lse: "
    "Optional[torch.Tensor] = None, return_lse: bool = False, enable_pdl: Optional[bool] = None, "
    "window_left: Optional[int] = None, sinks: Optional[torch.Tensor] = None, q_len_per_req: "
    "Optional[int] = None, skip_softmax_threshold_scale_factor: Optional[float] = None, "
    "kv_cache_sf: Union[torch.Tensor, Tuple[torch.Tensor, torch.Tensor], NoneType] = None) -> "
    "Union[torch.Tensor, Tuple[torch.Tensor, torch.Tensor]]";
constexpr const char* paged_plan_signature =
    "(self, qo_indptr: torch.Tensor, paged_kv_indptr: torch.Tensor, paged_kv_indices: "
    "torch.Tensor, paged_kv_last_page_len: torch.Tensor, num_qo_heads: int, num_kv_heads: int, "
    "head_dim_qk: int, page_size: int, head_dim_vo: Optional[int] = None, custom_mask: "
    "Optional[torch.Tensor] = None, packed_custom_mask: Optional[torch.Tensor] = None, causal: "
    "bool = False, pos_encoding_mode: str = 'NONE', use_fp16_qk_reduction: bool = False, sm_scale: "
    "Optional[float] = None, window_left: int = -1, logits_soft_cap: Optional[float] = None, "
    "rope_scale: Optional[float] = None, rope_theta: Optional[float] = None, q_data_type: "
    "Union[str, torch.dtype] = 'float16', kv_data_type: Union[str, torch.dtype, NoneType] = None, "
    "o_data_type: Union[str, torch.dtype, NoneType] = None, non_blocking: bool = True, "
    "prefix_len_ptr: Optional[torch.Tensor] = None, token_pos_in_items_ptr: Optional[torch.Tensor] "
    "= None, token_pos_in_items_len: int = 0, max_item_len_ptr: Optional[torch.Tensor] = None, "
    "seq_lens: Optional[torch.Tensor] = None, seq_lens_q: Optional[torch.Tensor] = None, "
    "block_tables: Optional[torch.Tensor] = None, max_token_per_sequence: Optional[int] = None, "
    "max_sequence_kv: Optional[int] = None, fixed_split_size: Optional[int] = None, "
    "disable_split_kv: bool = False) -> None";
constexpr const char* paged_run_signature =
    "(self, q: torch.Tensor, paged_kv_cache: Union[torch.Tensor, Tuple[torch.Tensor, "
    "torch.Tensor]], *args, q_scale: Union[float, torch.Tensor, NoneType] = None, k_scale: "
    "Union[float, torch.Tensor, NoneType] = None, v_scale: Union[float, torch.Tensor, NoneType] = "
    "None, out: Optional[torch.Tensor] = None, lse: Optional[torch.Tensor] = None, return_lse: "
    "bool = False, enable_pdl: Optional[bool] = None, window_left: Optional[int] = None, sinks: "
    "Optional[torch.Tensor] = None, kv_cache_sf: Union[torch.Tensor, Tuple[torch.Tensor, "
    "torch.Tensor], NoneType] = None, skip_softmax_threshold_scale_factor: Optional[float] = None) "
    "-> Union[torch.Tensor, Tuple[torch.Tensor, torch.Tensor]]";
constexpr const char* ragged_plan_signature =
    "(self, qo_indptr: torch.Tensor, kv_indptr: torch.Tensor, num_qo_heads: int, num_kv_heads: "
    "int, head_dim_qk: int, head_dim_vo: Optional[int] = None, custom_mask: Optional[torch.Tensor] "
    "= None, packed_custom_mask: Optional[torch.Tensor] = None, causal: bool = False, "
    "pos_encoding_mode: str = 'NONE', use_fp16_qk_reduction: bool = False, window_left: int = -1, "
    "logits_soft_cap: Optional[float] = None, sm_scale: Optional[float] = None, rope_scale: "
    "Optional[float] = None, rope_theta: Optional[float] = None, q_data_type: Union[str, "
    "torch.dtype] = 'float16', kv_data_type: Union[str, torch.dtype, NoneType] = None, "
    "o_data_type: Union[str, torch.dtype, NoneType] = None, non_blocking: bool = True, "
    "prefix_len_ptr: Optional[torch.Tensor] = None, token_pos_in_items_ptr: Optional[torch.Tensor] "
    "= None, token_pos_in_items_len: int = 0, max_item_len_ptr: Optional[torch.Tensor] = None, "
    "fixed_split_size: Optional[int] = None, disable_split_kv: bool = False, seq_lens: "
    "Optional[torch.Tensor] = None, seq_lens_q: Optional[torch.Tensor] = None, "
    "max_token_per_sequence: Optional[int] = None, max_sequence_kv: Optional[int] = None, "
    "v_indptr: Optional[torch.Tensor] = None, o_indptr: Optional[torch.Tensor] = None) -> None";
constexpr const char* ragged_run_signature =
    "(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *args, q_scale: Optional[float] = "
    "None, k_scale: Optional[float] = None, v_scale: Optional[float] = None, o_scale: "
    "Optional[float] = None, out: Optional[torch.Tensor] = None, lse: Optional[torch.Tensor] = "
    "None, return_lse: bool = False, enable_pdl: Optional[bool] = None, kv_cache_sf: "
    "Union[torch.Tensor, Tuple[torch.Tensor, torch.Tensor], NoneType] = None) -> "
    "Union[torch.Tensor, Tuple[torch.Tensor, torch.Tensor]]";
constexpr const char* mla_plan_signature =
    "(self, qo_indptr: torch.Tensor, kv_indptr: torch.Tensor, kv_indices: torch.Tensor, "
    "kv_len_arr: torch.Tensor, num_heads: int, head_dim_ckv: int, head_dim_kpe: int, page_size: "
    "int, causal: bool, sm_scale: float, q_data_type: torch.dtype, kv_data_type: torch.dtype, "
    "use_profiler: bool = False) -> None";
constexpr const char* mla_run_signature =
    "(self, q_nope: torch.Tensor, q_pe: torch.Tensor, ckv_cache: torch.Tensor, kpe_cache: "
    "torch.Tensor, out: Optional[torch.Tensor] = None, lse: Optional[torch.Tensor] = None, "
    "return_lse: bool = False, profiler_buffer: Optional[torch.Tensor] = None, kv_len: "
    "Optional[torch.Tensor] = None, page_table: Optional[torch.Tensor] = None, "
    "return_lse_base_on_e: bool = False, o_scale: Optional[float] = None, *, ckv_scale: "
    "Optional[float] = None, kpe_scale: Optional[float] = None) -> Union[torch.Tensor, "
    "Tuple[torch.Tensor, torch.Tensor]]";
constexpr const char* rmsnorm_signature =
    "(input: torch.Tensor, weight: torch.Tensor, eps: float = 1e-06, out: Optional[torch.Tensor] = "
    "None, enable_pdl: Optional[bool] = None) -> torch.Tensor";
constexpr const char* fused_add_rmsnorm_signature =
    "(input: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float = 1e-06, "
    "enable_pdl: Optional[bool] = None) -> None";
constexpr const char* sampling_signature =
    "(probs: torch.Tensor, top_k: Union[torch.Tensor, int], top_p: Union[torch.Tensor, float], "
    "indices: Optional[torch.Tensor] = None, filter_apply_order: str = 'top_k_first', "
    "deterministic: bool = True, generator: Optional[torch._C.Generator] = None, check_nan: bool = "
    "False, seed: Union[int, torch.Tensor, NoneType] = None, offset: Union[int, torch.Tensor, "
    "NoneType] = None, return_valid: bool = False) -> Union[torch.Tensor, Tuple[torch.Tensor, "
    "torch.Tensor]]";

// A string as Python's json writes it: ASCII only.
std::string python_json(const std::string& text) {
  return Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
}

std::string torch_name(DType dtype) {
  if (dtype == DType::float4_e2m1) return "torch.float4_e2m1fn_x2";
  return fmt::format("torch.{}", trace_name(dtype));
}

std::string detail(const DumpTensor& tensor) {
  Shape stride(tensor.shape.size(), 1);
  for (std::size_t i = tensor.shape.size(); i-- > 1;) stride[i - 1] = stride[i] * tensor.shape[i];
  return fmt::format(R"("shape": [{}], "dtype": "{}", "stride": [{}], "device": "cpu")",
                     fmt::join(tensor.shape, ", "), torch_name(tensor.dtype),
                     fmt::join(stride, ", "));
}

std::string item(const DumpTensor& tensor, const std::string& key) {
  return fmt::format(
      R"({{"type": "torch.Tensor", {}, "requires_grad": false, "is_contiguous": true, )"
      R"("tensor_key": "{}"}})",
      detail(tensor), key);
}

std::uint64_t size_of(const DumpTensor& tensor) {
  return *byte_count(tensor.dtype, *element_count(tensor.shape));
}

double megabytes(std::uint64_t bytes) {
  return static_cast<double>(bytes) / (1024 * 1024);
}

// A safetensors file in which tensors without data are holes.
void write_tensors(const std::filesystem::path& path,
                   const std::vector<std::pair<std::string, const DumpTensor*>>& tensors) {
  std::string header = "{";
  std::uint64_t position = 0;

  // The header, padded to eight bytes.
  for (const auto& [name, tensor] : tensors) {
    Shape shape = tensor->shape;
    if (tensor->dtype == DType::float4_e2m1) shape.back() *= 2;  // as safetensors counts
    header += fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                          header.size() > 1 ? "," : "", name, safetensors_name(tensor->dtype),
                          fmt::join(shape, ","), position, position + size_of(*tensor));
    position += size_of(*tensor);
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = header.size();

  // The values, one after another. Bytes that are not given stay a hole.
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
  const DumpTensor half = heads.page_size == 1
                              ? activations({heads.pool, heads.kv, heads.dim})
                              : activations({heads.pool, heads.page_size, heads.kv, heads.dim});
  return {half, half};
}

}  // namespace

DumpTensor int32_tensor(const std::vector<std::int64_t>& values) {
  DenseTensor dense =
      from_integers(DType::int32, {static_cast<std::int64_t>(values.size())}, values);
  return {dense.dtype, std::move(dense.shape), std::move(dense.bytes)};
}

DumpWriter::DumpWriter(std::filesystem::path folder, int process, Clock clock)
    : folder_(std::move(folder)), process_(process), kind_(clock) {
  std::filesystem::create_directories(folder_);
}

std::string DumpWriter::timestamp() const {
  if (kind_ == Clock::standing) {
    const int seconds = clock_ / 1000;
    return fmt::format("20261122_{:02}{:02}{:02}_{:03}", 10 + seconds / 3600, seconds / 60 % 60,
                       seconds % 60, clock_ % 1000);
  }
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm local;
  ::localtime_r(&now.tv_sec, &local);
  return fmt::format("{:04}{:02}{:02}_{:02}{:02}{:02}_{:03}", local.tm_year + 1900,
                     local.tm_mon + 1, local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec,
                     now.tv_nsec / 1'000'000);
}

// What level 10 writes about a call's inputs, as JSON fragments.
class DumpWriter::Inputs {
 public:
  explicit Inputs(const DumpCall& call) {
    if (call.self != 0)
      metadata_.push_back(
          fmt::format(R"("arg_0": {{"type": "{0}", "repr": "<{1}.{0} object at {2:#x}>"}})",
                      call.function.substr(0, call.function.find('.')), call.module, call.self));
    for (const auto& [key, value] : call.arguments) {
      if (const auto* tensor = std::get_if<DumpTensor>(&value)) add(key, *tensor);
      if (const auto* literal = std::get_if<DumpLiteral>(&value))
        metadata_.push_back(fmt::format("\"{}\": {}", key, literal->json));
      if (const auto* pair = std::get_if<DumpPair>(&value)) add(key, *pair);
    }
  }

  const std::vector<std::pair<std::string, const DumpTensor*>>& tensors() const { return tensors_; }
  std::uint64_t bytes() const { return bytes_; }
  std::string metadata() const { return fmt::format("{}", fmt::join(metadata_, ", ")); }
  std::string details() const { return fmt::format("{}", fmt::join(details_, ", ")); }
  std::string keys() const { return fmt::format("{}", fmt::join(keys_, ", ")); }

 private:
  void add(const std::string& key, const DumpTensor& tensor) {
    tensors_.emplace_back(key, &tensor);
    details_.push_back(fmt::format(R"("{}": {{{}}})", key, detail(tensor)));
    keys_.push_back(fmt::format("\"{}\"", key));
    bytes_ += size_of(tensor);
  }

  void add(const std::string& key, const DumpPair& pair) {
    metadata_.push_back(fmt::format(
        R"("{0}": {{"type": "tuple", "length": 2, "items": [{1}, {2}], "truncated": false}})", key,
        item(pair.first, key + "__0"), item(pair.second, key + "__1")));
    add(key + "__0", pair.first);
    add(key + "__1", pair.second);
  }

  std::vector<std::string> metadata_, details_, keys_;
  std::vector<std::pair<std::string, const DumpTensor*>> tensors_;
  std::uint64_t bytes_ = 0;
};

// A line of metadata.jsonl. FlashInfer writes one before the call, and one after it.
std::string DumpWriter::record(const DumpCall& call, const Inputs& inputs, const Stamp& stamp,
                               Moment moment) const {
  const bool has_returned = moment == Moment::after;
  const bool has_result = has_returned && call.result;
  const std::uint64_t output_bytes = call.result ? size_of(*call.result) : 0;
  const std::string sizes =
      has_returned
          ? fmt::format(
                R"(, "output_size_bytes": {}, "output_size_mb": {:#}, "total_size_bytes": {}, )"
                R"("total_size_mb": {:#})",
                output_bytes, megabytes(output_bytes), inputs.bytes() + output_bytes,
                megabytes(inputs.bytes() + output_bytes))
          : std::string();
  return fmt::format(
      R"({{"function_name": "{}", "module": "{}", "call_sequence": {}, "timestamp": "{}", )"
      R"("process_id": {}, "input_metadata": {{{}}}, "output_metadata": {{{}}}, )"
      R"("tensor_info": {{"input_tensor_keys": [{}], "output_tensor_keys": [{}], )"
      R"("input_size_bytes": {}, "input_size_mb": {:#}{}}}, "tensor_details": {{{}{}}}, )"
      R"("tensor_format": "safetensors", "function_signature": "{}", "versions": )"
      R"({{"torch": "2.11.0+cu130", "python": "3.12.3 (main) [GCC 13.3.0]", )"
      R"("flashinfer": "0.6.15.post1"}}, "execution_status": "{}", )"
      R"("graph_capture": {}{}{}, "dump_dir": {}}})"
      "\n",
      call.function, call.module, stamp.sequence, stamp.time, process_, inputs.metadata(),
      has_returned && !call.result ? R"("result": null)" : "", inputs.keys(),
      has_result ? R"("result")" : "", inputs.bytes(), megabytes(inputs.bytes()), sizes,
      inputs.details(),
      has_result ? fmt::format(R"(, "result": {{{}}})", detail(*call.result)) : "", call.signature,
      has_returned ? call.status : "inputs_saved", call.graph_capture,
      call.self != 0 ? fmt::format(R"(, "self_id": {})", call.self) : "",
      kind_ == Clock::real ? R"(, "simulated": true)" : "", python_json(stamp.folder.string()));
}

std::string DumpWriter::write(const DumpCall& call) {
  Stamp stamp{.sequence = ++sequences_[call.function], .time = timestamp(), .folder = {}};
  const std::string name =
      fmt::format("{}_pid{}_{}_call{:04}", stamp.time, process_, call.function, stamp.sequence);
  stamp.folder = folder_ / name;
  std::filesystem::create_directory(stamp.folder);
  const auto append = [&](const std::string& text) {
    std::ofstream(stamp.folder / "metadata.jsonl", std::ios::app) << text;
    if (call.in_session) std::ofstream(folder_ / "session.jsonl", std::ios::app) << text;
  };

  // Before the call.
  const Inputs inputs(call);
  if (!inputs.tensors().empty())
    write_tensors(stamp.folder / "inputs.safetensors", inputs.tensors());
  append(record(call, inputs, stamp, Moment::before));
  if (call.status == "inputs_saved") return name;

  // After it.
  if (call.result) write_tensors(stamp.folder / "outputs.safetensors", {{"result", &*call.result}});
  append(record(call, inputs, stamp, Moment::after));
  return name;
}

void DumpWriter::write_half(const DumpCall& call) {
  DumpCall unfinished = call;
  unfinished.status = "inputs_saved";
  unfinished.in_session = false;
  const std::filesystem::path folder = folder_ / write(unfinished);
  for (const char* file : {"metadata.jsonl", "inputs.safetensors"})
    if (std::filesystem::exists(folder / file))
      std::filesystem::resize_file(folder / file, std::filesystem::file_size(folder / file) / 2);
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
           {"kwarg_non_blocking", DumpLiteral{"true"}},
           {"kwarg_fixed_split_size", null},
           {"kwarg_disable_split_kv", DumpLiteral{"false"}}}};
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
           {"kwarg_v_scale", null}},
          activations({batch, heads.qo, heads.dim})};
}

DumpCall paged_plan(std::uint64_t self, const std::vector<std::int64_t>& qo_indptr,
                    const std::vector<std::int64_t>& indptr,
                    const std::vector<std::int64_t>& indices, Heads heads) {
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
           {"kwarg_kv_data_type", bfloat16},
           {"kwarg_custom_mask", null},
           {"kwarg_non_blocking", DumpLiteral{"true"}},
           {"kwarg_fixed_split_size", null},
           {"kwarg_prefix_len_ptr", null},
           {"kwarg_token_pos_in_items_ptr", null},
           {"kwarg_token_pos_in_items_len", number(0)},
           {"kwarg_max_item_len_ptr", null}}};
}

DumpCall paged_run(std::uint64_t self, std::int64_t tokens, bool return_lse, Heads heads) {
  DumpCall call{std::string(paged_class) + ".run",
                "flashinfer.prefill",
                paged_run_signature,
                self,
                {{"arg_1", activations({tokens, heads.qo, heads.dim})},
                 {"arg_2", cache(heads)},
                 {"kwarg_k_scale", null},
                 {"kwarg_v_scale", null}},
                activations({tokens, heads.qo, heads.dim})};
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
  const std::int64_t vo_dim = heads.vo_dim != 0 ? heads.vo_dim : heads.dim;
  DumpCall call{std::string(ragged_class) + ".run",
                "flashinfer.prefill",
                ragged_run_signature,
                self,
                {{"arg_1", activations({tokens, heads.qo, heads.dim})},
                 {"arg_2", activations({tokens, heads.kv, heads.dim})},
                 {"arg_3", activations({tokens, heads.kv, vo_dim})}},
                activations({tokens, heads.qo, vo_dim})};
  if (return_lse) call.arguments.emplace_back("kwarg_return_lse", DumpLiteral{"true"});
  return call;
}

DumpCall mla_plan(std::uint64_t self, const std::vector<std::int64_t>& qo_indptr,
                  const std::vector<std::int64_t>& indptr, const std::vector<std::int64_t>& indices,
                  const std::vector<std::int64_t>& lengths, bool causal, double sm_scale,
                  std::int64_t page_size, std::int64_t heads) {
  return {std::string(mla_class) + ".plan",
          "flashinfer.mla._core",
          mla_plan_signature,
          self,
          {{"arg_1", int32_tensor(qo_indptr)},
           {"arg_2", int32_tensor(indptr)},
           {"arg_3", int32_tensor(indices)},
           {"arg_4", int32_tensor(lengths)},
           {"arg_5", number(heads)},
           {"arg_6", number(512)},
           {"arg_7", number(64)},
           {"arg_8", number(page_size)},
           {"arg_9", DumpLiteral{causal ? "true" : "false"}},
           {"arg_10", DumpLiteral{fmt::format("{}", sm_scale)}},
           {"arg_11", bfloat16},
           {"arg_12", bfloat16}}};
}

DumpCall mla_ragged_plan(std::uint64_t self, const std::vector<std::int64_t>& qo_indptr,
                         const std::vector<std::int64_t>& kv_indptr, bool causal, Heads heads) {
  return {std::string(ragged_class) + ".plan",
          "flashinfer.prefill",
          ragged_plan_signature,
          self,
          {{"kwarg_qo_indptr", int32_tensor(qo_indptr)},
           {"kwarg_kv_indptr", int32_tensor(kv_indptr)},
           {"kwarg_num_qo_heads", number(heads.qo)},
           {"kwarg_num_kv_heads", number(heads.kv)},
           {"kwarg_head_dim_qk", number(heads.dim)},
           {"kwarg_head_dim_vo", number(heads.vo_dim)},
           {"kwarg_q_data_type", bfloat16},
           {"kwarg_causal", DumpLiteral{causal ? "true" : "false"}}}};
}

DumpCall mla_run(std::uint64_t self, std::int64_t tokens, std::int64_t pages,
                 std::int64_t page_size, std::int64_t heads) {
  return {std::string(mla_class) + ".run",
          "flashinfer.mla._core",
          mla_run_signature,
          self,
          {{"arg_1", activations({tokens, heads, 512})},
           {"arg_2", activations({tokens, heads, 64})},
           {"arg_3", activations({pages, page_size, 512})},
           {"arg_4", activations({pages, page_size, 64})},
           {"kwarg_return_lse", DumpLiteral{"false"}}},
          activations({tokens, heads, 512})};
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
           {"arg_4", null}},
          activations({rows, hidden})};
}

DumpCall fused_add_rmsnorm(std::int64_t rows, std::int64_t hidden) {
  return {"fused_add_rmsnorm",
          "flashinfer.norm",
          fused_add_rmsnorm_signature,
          0,
          {{"arg_0", activations({rows, hidden})},
           {"arg_1", activations({rows, hidden})},
           {"arg_2", activations({hidden})},
           {"arg_3", DumpLiteral{"1e-05"}},
           {"arg_4", null}}};
}

DumpCall sampling(const std::vector<std::int64_t>& top_k, const std::vector<float>& top_p,
                  std::int64_t vocabulary) {
  const auto batch = static_cast<std::int64_t>(top_k.size());
  DumpTensor p{
      DType::float32,
      {batch},
      std::string(reinterpret_cast<const char*>(top_p.data()), top_p.size() * sizeof(float))};
  return {"top_k_top_p_sampling_from_probs",
          "flashinfer.sampling",
          sampling_signature,
          0,
          {{"arg_0", DumpTensor{DType::float32, {batch, vocabulary}}},
           {"arg_1", int32_tensor(top_k)},
           {"arg_2", std::move(p)},
           {"kwarg_filter_apply_order", DumpLiteral{"\"joint\""}}},
          DumpTensor{DType::int32, {batch}}};
}

}  // namespace cw::simulated
