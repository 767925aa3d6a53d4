// One observed call of a FlashInfer API.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/container/small_vector.hpp>

#include "base/hash.h"
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

/// What a call was made with. Calls that were made with the same share it.
struct CallContent {
  std::string function;  ///< "Class.method" or "function"
  std::string module;
  bool is_simulated = false;  ///< by our own engine, which runs no model
  std::string flashinfer_version;
  std::shared_ptr<const Signature> signature;
  std::vector<std::pair<std::string, Value>> arguments;  ///< by parameter name, without `self`
  std::size_t memory = 0;  ///< of the arguments, about; set by share()
};
std::shared_ptr<const CallContent> share(CallContent content);

/// Where a capture holds a call, for as long as the capture exists. The members' meaning is its
/// own; within a process, places are in the order of the calls.
struct CallPlace {
  std::uint32_t source = 0;  ///< a folder or a file
  std::uint32_t form = 0;
  std::uint64_t at = 0;
  std::uint32_t inner = 0, size = 0;
  std::uint64_t form_at = 0;

  /// Whether it comes before another one of the same process.
  bool is_before(const CallPlace& other) const {
    return std::pair(at, inner) < std::pair(other.at, other.inner);
  }
};

/// How many elements of a tensor are in use, as a capture tells it without their values.
struct ToldCount {
  std::uint32_t tensor = 0;  ///< Tensor::entry
  std::uint64_t used = 0;
  /// Of a list, an index tensor of one axis: its extent, which `content` may have from another
  /// call, or not at all. Else unknown_extent: the content's is right.
  std::int64_t extent = unknown_extent;
  bool has_values = false;  ///< they can be read, too
  bool is_packed = false;   ///< a page table, of which only the pages in use can be read
};

struct Call {
  std::shared_ptr<const CallContent> content;
  /// Calls of equal identities differ at most in wrapper, order, count, `told` and the addresses of
  /// their tensors; zero: unknown. Shapes are those of shape_of().
  Hash128 identity;
  CallStatus status = CallStatus::completed;
  bool is_nested = false;  ///< made within another captured call, if the capture says so
  WrapperId wrapper;       ///< wrapper.self is 0 for plain functions
  std::size_t order = 0;   ///< position in the capture's order
  CallPlace place;
  std::uint64_t count = 1;  ///< how many equivalent calls this stands for
  /// How many sequences of the batch are real; nothing: all, or unknown.
  std::optional<std::int64_t> sequences;
  boost::container::small_vector<ToldCount, 3> told;
  bool lacks_values = false;  ///< of some index tensor: `told` stands in for them
  /// In the engine's process, by Tensor::entry; may be empty.
  boost::container::small_vector<std::uint64_t, 8> addresses;
  unsigned flushes = 0;            ///< graph flushes seen (captured calls only)
  bool is_order_in_doubt = false;  ///< its order within its millisecond is uncertain
  /// The function's next call number is missing: a call was not kept.
  bool is_next_missing = false;
  /// Keeps what the call was read from until this is released; often null.
  std::shared_ptr<const void> lease;

  /// Null if nothing is told of that tensor.
  const ToldCount* told_of(std::size_t tensor) const;
  /// As it was passed to this call: the content's shape, but for what is told.
  Shape shape_of(const Tensor& tensor) const;
  /// 0: unknown.
  std::uint64_t address(const Tensor& tensor) const {
    return tensor.entry < addresses.size() ? addresses[tensor.entry] : 0;
  }
  /// The argument as passed; null if the caller omitted it.
  const Value* given(std::string_view name) const;

  /// Caches values derived from this call for every call that refers to it (the runs of a plan).
  /// `make` succeeds at most once per key; thread-safe.
  template <typename Make>
  Result<std::shared_ptr<const DenseTensor>> remember(const void* key, Make make) const {
    Remembered& remembered = memory_.get();
    const std::lock_guard lock(remembered.mutex);
    for (const auto& [known, tensor] : remembered.tensors)
      if (known == key) return tensor;
    CW_TRY(DenseTensor made, make());
    auto tensor = std::make_shared<const DenseTensor>(std::move(made));
    remembered.tensors.emplace_back(key, tensor);
    return tensor;
  }

 private:
  struct Remembered {
    std::mutex mutex;
    std::vector<std::pair<const void*, std::shared_ptr<const DenseTensor>>> tensors;
  };
  // Made by the first who needs it: few calls remember anything.
  class Memory {
   public:
    Memory() = default;
    Memory(Memory&& other) noexcept : made_(other.made_.exchange(nullptr)) {}
    Memory& operator=(Memory&& other) noexcept {
      delete made_.exchange(other.made_.exchange(nullptr));
      return *this;
    }
    ~Memory() { delete made_.load(); }

    Remembered& get() {
      Remembered* known = made_.load();
      if (known != nullptr) return *known;
      auto made = std::make_unique<Remembered>();
      return made_.compare_exchange_strong(known, made.get()) ? *made.release() : *known;
    }

   private:
    std::atomic<Remembered*> made_ = nullptr;
  };
  mutable Memory memory_;
};

}  // namespace cw
