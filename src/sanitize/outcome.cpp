#include "sanitize/outcome.h"

#include <algorithm>

namespace cw {
namespace {

Outcome bind_and_build(const CallInContext& context, const Binder& binder,
                       const std::set<const Definition*>& selected, const StoragePolicy& policy) {
  Outcome outcome;
  BindResult result = binder.bind(context);
  outcome.rejection = std::move(result.rejection);
  if (context.symbols && !context.symbols->met.empty()) return outcome;

  // One call can match several definitions.
  for (Observation& observation : result.observations) {
    const Definition& definition = *observation.target->definition;
    if (!selected.empty() && !selected.contains(&definition)) {
      outcome.rejection = Rejection{"not_selected", definition.name};
      continue;
    }

    if (observation.unseen) {
      outcome.fitting.push_back({observation.target, observation.sequences,
                                 known_axes(observation, policy), std::move(*observation.unseen)});
      continue;
    }

    auto workload = build_workload(observation, policy);
    if (!workload) {
      outcome.rejection = Rejection{workload.error().code, workload.error().message};
      continue;
    }

    const Hash128 key = content_key(*workload);
    // What stands for itself must not get into a workload.
    meet_all(workload->axes, context);
    workload->inputs.clear();  // values are read again for the selected ones
    outcome.workloads.push_back(
        {observation.target,
         {std::move(observation.derived), observation.sequences, observation.is_suspicious},
         std::move(*workload),
         key});
  }
  return outcome;
}

void append_context(std::string& text, const CallInContext& context) {
  for (const auto& call : {context.call.get(), context.plan.get(), context.init.get()}) {
    const Hash128 identity = call != nullptr ? call->identity : Hash128{};
    append_bytes(text, identity.high);
    append_bytes(text, identity.low);
  }
  text += {static_cast<char>(context.has_plan_in_doubt),
           static_cast<char>(context.is_before_traffic), static_cast<char>(context.has_neighbour)};
}

}  // namespace

// A record that asks for more memory than there is fails alone, without the run.
std::shared_ptr<const Outcome> outcome_of(const CallInContext& context, const Binder& binder,
                                          const std::set<const Definition*>& selected,
                                          const StoragePolicy& policy) {
  try {
    return std::make_shared<const Outcome>(bind_and_build(context, binder, selected, policy));
  } catch (const std::exception& error) {
    Outcome failed;
    failed.rejection = Rejection{"internal", fmt::format("reading it failed: {}", error.what())};
    return std::make_shared<const Outcome>(std::move(failed));
  }
}

Hash128 context_key(const CallInContext& context, std::span<const ToldNumber> known) {
  static thread_local std::string text;
  text.clear();
  append_context(text, context);
  for (const ToldNumber& told : known) {
    append_bytes(text, symbol_of(told));
    append_bytes(text, number_of(told, context));
  }
  return xxh3(text);
}

Hash128 whole_context_key(const CallInContext& context) {
  static thread_local std::string text;
  text = "whole";
  append_context(text, context);
  for (const auto& call : {context.call.get(), context.plan.get(), context.init.get()}) {
    append_bytes(text, call != nullptr ? call->told.size() : 0);
    if (call == nullptr) continue;
    for (const ToldCount& told : call->told) {
      append_bytes(text, told.tensor);
      append_bytes(text, told.used);
      append_bytes(text, told.extent);
    }
  }
  return xxh3(text);
}

Hash128 context_key(const Hash128& identity, bool is_before_traffic) {
  return {identity.high, identity.low + static_cast<std::uint64_t>(is_before_traffic)};
}

}  // namespace cw
