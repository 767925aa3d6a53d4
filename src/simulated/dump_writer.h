// Writes level-10 dumps as FlashInfer 0.6.15.post1 does, for the simulated engine, tests and
// benchmarks: the same folder names, the same records in the same JSON spelling, real safetensors.
// Tensors without bytes are holes in sparse files, so that a KV pool of any size costs nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tensor/shape.h"

namespace cw::simulated {

struct DumpTensor {
  DType dtype;
  Shape shape;
  std::string bytes{};  ///< empty: zeros, sparse
};

DumpTensor int32_tensor(const std::vector<std::int64_t>& values);

/// JSON text as it stands in the record: "null", "32", "true", "\"joint\"".
struct DumpLiteral {
  std::string json;
};
struct DumpPair {
  DumpTensor first, second;
};
using DumpValue = std::variant<DumpTensor, DumpLiteral, DumpPair>;

struct DumpCall {
  std::string function;
  std::string module;
  std::string signature;
  std::uint64_t self = 0;                                    ///< 0: a plain function
  std::vector<std::pair<std::string, DumpValue>> arguments;  ///< keys arg_N and kwarg_NAME
  std::optional<DumpTensor> result{};                        ///< nothing: the API returns None
  std::string status = "completed";                          ///< the last record's
  bool graph_capture = false;
  bool in_session = true;
};

class DumpWriter {
 public:
  /// standing: 2026-11-22 10:00, moved by tick(), for tests. real: the simulated engine's, whose
  /// records are marked as such
  /// ("simulated"), so that no workload made of them is taken for a kernel's.
  enum class Clock { standing, real };

  DumpWriter(std::filesystem::path folder, int process, Clock clock = Clock::standing);

  /// Writes a call's folder and records; returns the folder's name.
  std::string write(const DumpCall& call);
  /// What a process killed in the middle of a dump leaves: a truncated tensor file and half a
  /// record.
  void write_half(const DumpCall& call);
  void tick(int milliseconds = 1) { clock_ += milliseconds; }
  /// Folder names get this sequence number next, as after skipped calls.
  void skip_sequence(const std::string& function) { ++sequences_[function]; }

 private:
  class Inputs;
  struct Stamp {
    int sequence = 0;
    std::string time;
    std::filesystem::path folder;
  };
  enum class Moment { before, after };

  std::string timestamp() const;
  std::string record(const DumpCall& call, const Inputs& inputs, const Stamp& stamp,
                     Moment moment) const;

  std::filesystem::path folder_;
  int process_;
  Clock kind_;
  int clock_ = 0;
  std::map<std::string, int> sequences_;
};

// The wrappers and functions of the model that most tests use, as SGLang calls them.
inline constexpr const char* decode_class = "BatchDecodeWithPagedKVCacheWrapper";
inline constexpr const char* paged_class = "BatchPrefillWithPagedKVCacheWrapper";
inline constexpr const char* ragged_class = "BatchPrefillWithRaggedKVCacheWrapper";
inline constexpr const char* mla_class = "BatchMLAPagedAttentionWrapper";

struct Heads {
  std::int64_t qo = 32, kv = 8, dim = 128, page_size = 1, pool = 1024;
  std::int64_t vo_dim = 0;  ///< ragged runs: of v, 0 for `dim`
};
DumpCall decode_plan(std::uint64_t self, const std::vector<std::int64_t>& indptr,
                     const std::vector<std::int64_t>& indices, Heads heads = {});
DumpCall decode_run(std::uint64_t self, std::int64_t batch, Heads heads = {});
DumpCall paged_plan(std::uint64_t self, const std::vector<std::int64_t>& qo_indptr,
                    const std::vector<std::int64_t>& indptr,
                    const std::vector<std::int64_t>& indices, Heads heads = {});
DumpCall paged_run(std::uint64_t self, std::int64_t tokens, bool return_lse = false,
                   Heads heads = {});
DumpCall ragged_plan(std::uint64_t self, const std::vector<std::int64_t>& indptr, Heads heads = {});
DumpCall ragged_run(std::uint64_t self, std::int64_t tokens, bool return_lse = false,
                    Heads heads = {});
/// The ragged plan of MLA's prefill, all keywords.
DumpCall mla_ragged_plan(std::uint64_t self, const std::vector<std::int64_t>& qo_indptr,
                         const std::vector<std::int64_t>& kv_indptr, bool causal, Heads heads);
DumpCall mla_plan(std::uint64_t self, const std::vector<std::int64_t>& qo_indptr,
                  const std::vector<std::int64_t>& indptr, const std::vector<std::int64_t>& indices,
                  const std::vector<std::int64_t>& lengths, bool causal, double sm_scale,
                  std::int64_t page_size = 1, std::int64_t heads = 16);
DumpCall mla_run(std::uint64_t self, std::int64_t tokens, std::int64_t pages = 1024,
                 std::int64_t page_size = 1, std::int64_t heads = 16);
DumpCall rmsnorm(std::int64_t rows, std::int64_t hidden = 4096);
DumpCall fused_add_rmsnorm(std::int64_t rows, std::int64_t hidden = 4096);
DumpCall sampling(const std::vector<std::int64_t>& top_k, const std::vector<float>& top_p,
                  std::int64_t vocabulary = 128256);

}  // namespace cw::simulated
