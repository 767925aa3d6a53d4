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
               ///< whole
  captured,    ///< it was recorded into a CUDA graph: its arguments are those of the capture, no
               ///< replay's
  dummy,       ///< made to warm up, to tune or to capture a graph: no traffic
};

/// Identity of a wrapper object: two calls with equal ids were made on the same one, unless it was
/// freed in between and another took its address.
struct WrapperId {
  std::uint32_t folder = 0;  ///< which folder of dumps, so that equal pids of two hosts do not mix
  std::int64_t process = 0;
  std::uint64_t self = 0;
  auto operator<=>(const WrapperId&) const = default;
};

struct Call {
  std::string function;  ///< "Class.method" or "function"
  std::string module;
  CallStatus status = CallStatus::completed;
  bool is_nested = false;   ///< made within another call of the capture, where the capture says so
  WrapperId wrapper;        ///< wrapper.self is 0 for plain functions
  std::size_t order = 0;    ///< position in the capture's order
  std::uint64_t count = 1;  ///< so many calls that differ in nothing that matters
  /// Real ones among those of the batch; nothing: all, or not known.
  std::optional<std::int64_t> sequences;
  unsigned flushes = 0;            ///< graph flushes seen (captured calls only)
  bool is_order_in_doubt = false;  ///< it may have come before or after others of its millisecond
  /// The function's next call number is skipped: a call was not kept.
  bool is_next_missing = false;
  bool is_simulated = false;  ///< by our own engine, which runs no model
  std::string flashinfer_version;
  std::shared_ptr<const Signature> signature;
  std::vector<std::pair<std::string, Value>> arguments;  ///< by parameter name, `self` left out
  /// What the call was read from is kept until this goes; often null.
  std::shared_ptr<const void> lease;

  /// The argument as given; null when the caller left it out.
  const Value* given(std::string_view name) const;

  /// Values derived from this call once and used by every call that refers to it (the runs of a
  /// plan). `make` runs at most once for a key; safe to call from several threads.
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
