// Which plan a run belongs to: the last one of the same wrapper object in the same process.
//
// Calls are added in the capture's order. What is not certain is not paired: after a plan that
// could not be read, that never returned, or whose number shows that another one is missing from
// the dumps, the runs of that process and wrapper class have no plan until their wrapper is planned
// again; and a run whose order to its wrapper's second plan is not known has none.
//
// What is held of plans is bounded: past it, the wrappers that were planned longest ago are without
// a plan until they are planned again.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bind/binding.h"
#include "capture/call.h"

namespace cw {

/// A call together with all that its arguments depend on.
struct CallInContext {
  std::shared_ptr<const Call> call;
  std::shared_ptr<const Call> plan;  ///< null: none is known
  std::shared_ptr<const Call> init;  ///< null: not recorded, which is usual
  bool has_plan_in_doubt = false;    ///< there was a plan, but perhaps not the right one
  bool is_before_traffic = false;    ///< made while the engine started, as far as that is known
  bool has_neighbour = false;        ///< the other half of the binding's `beside` rule was seen
};

class Association {
 public:
  explicit Association(const BindingSet& bindings);

  /// Whether calls of this function matter to any binding; others need not be read.
  bool is_relevant(const std::string& function) const { return roles_.contains(function); }

  /// Takes the next call and appends to `ready` what can be bound now: often the call itself,
  /// nothing for plans, and a call that waited for its neighbour.
  void add(std::shared_ptr<const Call> call, std::vector<CallInContext>& ready);

  /// A call of `function` in this process could not be read.
  void add_unreadable(const std::string& function, std::uint32_t folder, std::int64_t process);

  /// Appends the calls that waited for a neighbour which did not come.
  void finish(std::vector<CallInContext>& ready);

 private:
  struct Role {
    bool is_call = false, is_plan = false, is_init = false, is_neighbour = false;
    std::vector<const Binding*> bindings;  ///< those whose call this is
  };
  struct Wrapper {
    std::shared_ptr<const Call> plan, init;
    bool in_doubt = false;
    bool has_doubtful_order = false;  ///< the plan may have come after runs of its own millisecond
  };
  using ProcessId = std::pair<std::uint32_t, std::int64_t>;
  struct Process {
    std::map<std::pair<std::string, std::uint64_t>, Wrapper> wrappers;  ///< by class and self
    std::map<std::string, std::shared_ptr<const Call>> last;  ///< neighbour candidates, by function
    std::optional<CallInContext> waiting;
  };

  void release(Process& process, std::vector<CallInContext>& ready);
  void offer_neighbour(Process& process, const std::shared_ptr<const Call>& call,
                       std::vector<CallInContext>& ready);
  void doubt(Process& process, const std::string& wrapper_class);
  /// Holds a plan, or what made a wrapper, in the place of what `held` is.
  void hold(std::shared_ptr<const Call>& held, std::shared_ptr<const Call> call, Wrapper& wrapper);

  std::map<std::string, Role, std::less<>> roles_;
  std::map<ProcessId, Process> processes_;
  /// By the order of the call that is held; wrappers stay where they are.
  std::map<std::size_t, Wrapper*> held_;
  std::size_t held_bytes_ = 0;
};

/// Whether two calls got the same content for a parameter: equal numbers, or tensors of one shape
/// and type that lay at one address, or, where no capture tells addresses, whose first kilobytes
/// agree.
bool have_same_argument(const Call& left, const Call& right, std::string_view parameter);

}  // namespace cw
