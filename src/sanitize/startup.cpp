#include "sanitize/startup.h"

#include <algorithm>
#include <set>

#include "bind/sequences.h"

namespace cw {
namespace {

// Plans of batches whose sequences have a minimum length in traffic.
std::map<std::string, const Binding*> telling_plans(const BindingSet& bindings) {
  std::map<std::string, const Binding*> plans;
  for (const Binding& binding : bindings.bindings())
    if (binding.sequences && binding.sequences->min > 0 && !binding.plan_function.empty())
      plans.emplace(binding.plan_function, &binding);
  return plans;
}

bool is_certain_traffic(const std::vector<std::int64_t>& lengths) {
  std::set<std::int64_t> different(lengths.begin(), lengths.end());
  different.erase(0);
  return different.size() > 1;
}

}  // namespace

std::map<WrapperId, CallPlace> ends_of_startup(Capture& capture, const BindingSet& bindings) {
  const auto plans = telling_plans(bindings);
  std::map<WrapperId, CallPlace> ends;
  std::set<WrapperId> serving;

  // What is left to see of one entry; the rest of a process that serves is not needed.
  const auto look_at = [&](std::size_t index) {
    const auto plan = plans.find(capture.function(index));
    if (plan == plans.end()) return;
    WrapperId process = capture.sighting(index).wrapper;
    process.self = 0;
    if (serving.contains(process)) return;
    auto read = capture.read(index);
    if (!read || read->status == CallStatus::dummy) return;  // those are left out in any case

    CallInContext context;
    context.call = context.plan = std::make_shared<const Call>(std::move(*read));
    const auto lengths = lengths_of(*plan->second, context);
    if (!lengths) return;

    if (is_certain_traffic(*lengths)) {
      serving.insert(process);
      capture.skip(process);
    } else if (is_dummy_batch(*plan->second, *lengths)) {
      ends.insert_or_assign(process, context.call->place);
    }
  };

  std::size_t next = 0;
  do {
    for (; next < capture.size(); ++next) look_at(next);
    capture.forget(next);
  } while (capture.fetch());
  return ends;
}

}  // namespace cw
