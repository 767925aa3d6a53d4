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

std::map<WrapperId, std::size_t> ends_of_startup(const Capture& capture,
                                                 const BindingSet& bindings) {
  const auto plans = telling_plans(bindings);
  std::map<WrapperId, std::size_t> ends;
  std::set<WrapperId> serving;

  for (std::size_t i = 0; i < capture.size(); ++i) {
    const auto plan = plans.find(capture.function(i));
    if (plan == plans.end()) continue;
    const WrapperId process = capture.process(i);
    if (serving.contains(process)) continue;
    auto read = capture.read(i);
    if (!read || read->status == CallStatus::dummy) continue;  // those are left out in any case

    CallInContext context;
    context.call = context.plan = std::make_shared<const Call>(std::move(*read));
    const auto lengths = lengths_of(*plan->second, context);
    if (!lengths) continue;

    if (is_certain_traffic(*lengths))
      serving.insert(process);
    else if (is_dummy_batch(*plan->second, *lengths))
      ends[process] = i;
  }
  return ends;
}

}  // namespace cw
