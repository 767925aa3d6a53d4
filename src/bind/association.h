// Which plan a run belongs to: the last one of the same wrapper object in the same process.
//
// Calls are added in the capture's order. What is uncertain is not paired: after a plan that could
// not be read, that never returned, or whose number shows that another one is missing from the
// dumps, the runs of that process and wrapper class have no plan until their wrapper is planned
// again; and a run whose order relative to its wrapper's second plan is unknown has none.
//
// The memory for plans is bounded: beyond that, the least recently planned wrappers lose their plan
// until they are planned again.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "bind/binding.h"
#include "capture/call.h"

namespace cw {

struct ToldSymbols;

/// A call together with everything its arguments depend on.
struct CallInContext {
  std::shared_ptr<const Call> call;
  std::shared_ptr<const Call> plan;  ///< null: unknown
  std::shared_ptr<const Call> init;  ///< null: not recorded, which is usual
  bool has_plan_in_doubt = false;    ///< there was a plan, but it may be the wrong one
  bool is_before_traffic = false;    ///< made during engine startup, as far as is known
  bool has_neighbour = false;        ///< the neighbour asked for by `beside` was seen
  /// What the capture tells without values stands for itself (told.h); null: it is as it is.
  std::shared_ptr<ToldSymbols> symbols = {};
};

class Association {
 public:
  explicit Association(const BindingSet& bindings);

  /// What calls of a function are to the bindings.
  struct Role {
    bool is_call = false, is_plan = false, is_init = false, is_neighbour = false;
    std::uint32_t wrapper_class = 0;       ///< of a method
    std::vector<const Binding*> bindings;  ///< those that bind this call

    /// Whether its calls depend on no others: add() would give each as it is.
    bool is_on_its_own() const;
  };
  /// Null if they do not matter to any binding, and need not be read.
  const Role* role_of(const std::string& function) const;

  /// Takes the next call and appends to `ready` what can be bound now: often the call itself,
  /// nothing for plans, and possibly a call that was waiting for its neighbour.
  void add(std::shared_ptr<const Call> call, std::vector<CallInContext>& ready);
  /// The same for a caller that knows the function's role.
  void add(const Role& role, std::shared_ptr<const Call> call, std::vector<CallInContext>& ready);

  /// Notes that a call of `function` in this process could not be read.
  void add_unreadable(const std::string& function, std::uint32_t folder, std::int64_t process);

  /// Appends the calls still waiting for a neighbour that never came.
  void finish(std::vector<CallInContext>& ready);

 private:
  struct Wrapper;
  /// A plan or a constructor's call, while its wrapper has it.
  struct Held {
    std::shared_ptr<const Call> call;
    std::list<std::pair<Wrapper*, Held*>>::iterator place;  ///< in held_; only with a call
  };
  struct Wrapper {
    Held plan, init;
    bool in_doubt = false;
    bool has_doubtful_order = false;  ///< the plan may be later than runs of the same millisecond
  };
  /// Of one process: by class and self.
  using WrapperKey = std::pair<std::uint32_t, std::uint64_t>;
  struct WrapperHash {
    std::size_t operator()(const WrapperKey& key) const noexcept {
      return (key.second * 0x9e3779b97f4a7c15) ^ key.first;
    }
  };
  using ProcessId = std::pair<std::uint32_t, std::int64_t>;
  struct Process {
    std::unordered_map<WrapperKey, Wrapper, WrapperHash> wrappers;
    std::map<std::string, std::shared_ptr<const Call>> last;  ///< neighbour candidates, by function
    std::optional<CallInContext> waiting;
  };

  void release(Process& process, std::vector<CallInContext>& ready);
  void offer_neighbour(Process& process, const std::shared_ptr<const Call>& call,
                       std::vector<CallInContext>& ready);
  static void doubt(Process& process, std::uint32_t wrapper_class);
  Process& process_of(const Call& call);
  /// Replaces the plan or constructor call in `held`.
  void hold(Held& held, std::shared_ptr<const Call> call, Wrapper& wrapper);
  void drop(Held& held);

  std::map<std::string, Role, std::less<>> roles_;
  std::map<ProcessId, Process> processes_;
  std::pair<ProcessId, Process*> last_process_{};
  /// In the order in which they were made; wrappers have stable addresses.
  std::list<std::pair<Wrapper*, Held*>> held_;
  std::size_t held_bytes_ = 0;
};

/// Whether two calls got the same content for a parameter: equal numbers, or tensors of the same
/// shape and type at the same address or, if the capture has no addresses, with equal first
/// kilobytes.
bool have_same_argument(const Call& left, const Call& right, std::string_view parameter);

}  // namespace cw
