// One observed call of a FlashInfer API.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "capture/signature.h"
#include "capture/value.h"

namespace cw {

enum class CallStatus {
  completed,   ///< the API returned
  unfinished,  ///< it raised, the process died in it, or it is still running; its arguments are
               ///< complete
  captured,    ///< it was captured into a CUDA graph: its arguments are those at capture, not
               ///< those of a replay
  dummy,       ///< made for warm-up, tuning or graph capture: not traffic
};

/// Identity of a wrapper object: two calls with equal ids were made on the same object, unless it
/// was freed in between and its address reused.
struct WrapperId {
  std::uint32_t folder = 0;  ///< which dump folder, so that equal pids on two hosts stay apart
  std::int64_t process = 0;
  std::uint64_t self = 0;
  auto operator<=>(const WrapperId&) const = default;
};

struct Call {
  std::string function;  ///< "Class.method" or "function"
  std::string module;
  CallStatus status = CallStatus::completed;
  bool is_nested = false;   ///< made within another captured call, if the capture says so
  WrapperId wrapper;        ///< wrapper.self is 0 for plain functions
  std::size_t order = 0;    ///< position in the capture's order
  std::uint64_t count = 1;  ///< how many equivalent calls this stands for
  /// How many sequences of the batch are real; nothing: all, or unknown.
  std::optional<std::int64_t> sequences;
  unsigned flushes = 0;            ///< graph flushes seen (captured calls only)
  bool is_order_in_doubt = false;  ///< its order within its millisecond is uncertain
  /// The function's next call number is missing: a call was not kept.
  bool is_next_missing = false;
  bool is_simulated = false;  ///< by our own engine, which runs no model
  std::string flashinfer_version;
  std::shared_ptr<const Signature> signature;
  std::vector<std::pair<std::string, Value>> arguments;  ///< by parameter name, without `self`
  /// Keeps what the call was read from until this is released; often null.
  std::shared_ptr<const void> lease;

  /// The argument as passed; null if the caller omitted it.
  const Value* given(std::string_view name) const;

  /// Caches values derived from this call for every call that refers to it (the runs of a plan).
  /// `make` succeeds at most once per key; thread-safe.
  template <typename Make>
  Result<std::shared_ptr<const DenseTensor>> remember(const void* key, Make make) const {
    const std::lock_guard lock(memory_->mutex);
    for (const auto& [known, tensor] : memory_->tensors)
      if (known == key) return tensor;
    CW_TRY(DenseTensor made, make());
    auto tensor = std::make_shared<const DenseTensor>(std::move(made));
    memory_->tensors.emplace_back(key, tensor);
    return tensor;
  }

 private:
  struct Memory {
    std::mutex mutex;
    std::vector<std::pair<const void*, std::shared_ptr<const DenseTensor>>> tensors;
  };
  std::unique_ptr<Memory> memory_ = std::make_unique<Memory>();
};

}  // namespace cw
