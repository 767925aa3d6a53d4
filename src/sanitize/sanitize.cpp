#include "sanitize/sanitize.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include <fmt/ranges.h>

#include "base/file.h"
#include "base/parallel.h"
#include "dataset/publication.h"
#include "sanitize/retained_workloads.h"
#include "sanitize/section.h"
#include "workload/selection.h"

namespace cw {
namespace {

// A selected entry, read again and ready to be written.
struct Prepared {
  Workload workload;
  std::string id;
};

}  // namespace

class Sanitizer::Work {
 public:
  Work(Capture& capture, const Dataset& dataset, const BindingSet& bindings,
       const SanitizeOptions& options, Source source)
      : capture_(capture),
        dataset_(dataset),
        bindings_(bindings),
        options_(options),
        binder_(dataset.definitions, bindings,
                {.includes_suspicious = options.includes_suspicious}) {
    // Much of what is stashed may turn out rarer than the rest: four times the selection leaves
    // room.
    if (source == Source::vanishing)
      retained_.emplace(options.selection == Selection::all
                            ? std::numeric_limits<std::size_t>::max()
                            : options.num_samples * 4);
  }

  Result<void> begin() {
    CW_TRY(chosen_, choose_definitions(dataset_, options_.definition_names, options_.op_types));

    for (const std::string& input : options_.policy.keep_values)
      if (std::ranges::none_of(
              chosen_, [&input](const Definition* d) { return d->input(input) != nullptr; }))
        return fail("input_unknown", "--keep-values {}: no definition has such an input", input);

    survey_options_ = {.policy = options_.policy,
                       .selected = {chosen_.begin(), chosen_.end()},
                       .progress = options_.progress,
                       .slowness = options_.slowness,
                       .is_whole = !retained_};

    // Workloads of a vanishing capture are built at once, while it can be read.
    if (retained_)
      survey_options_.on_distinct = [this](const CallInContext& context, const Target& target,
                                           const Hash128& key) {
        for (const Observation& observation : binder_.bind(context).observations) {
          if (observation.target != &target) continue;
          if (auto workload = build_workload(observation, options_.policy))
            retained_->add(&target, key, std::move(*workload));
        }
      };

    surveyor_.emplace(capture_, bindings_, binder_, survey_options_);
    return {};
  }

  Result<Json> restore(Checkpoint& checkpoint) {
    Survey survey;
    CW_TRY(Json more, checkpoint.load(binder_, survey, *retained_));
    surveyor_->restore(std::move(survey));
    return more;
  }

  Result<void> save(Checkpoint& checkpoint, const Json& more) const {
    return checkpoint.save(capture_, binder_, surveyor_->current(), *retained_, more);
  }

  bool advance(Deadline deadline) { return surveyor_->advance(deadline); }
  void set_starting(bool is_starting) { surveyor_->set_starting(is_starting); }

  std::vector<Progress> progress() const {
    std::vector<Progress> all;
    const Survey& survey = surveyor_->current();
    for (const Definition* definition : chosen_) {
      Progress progress{.definition = definition};
      const Target* target = target_of(*definition);
      if (const auto counts = survey.definitions.find(target);
          target != nullptr && counts != survey.definitions.end()) {
        progress.calls = counts->second.calls;
        progress.calls_since_new = counts->second.calls - counts->second.calls_at_last_cell;
        progress.distinct = survey.distinct.count(target);
        progress.ranges = counts->second.ranges;
        progress.cells = counts->second.cells.size();
      }
      all.push_back(std::move(progress));
    }
    return all;
  }

  std::uint64_t calls() const { return surveyor_->current().calls; }

  std::string why_none() const {
    const TallyItem* most = nullptr;
    for (const auto& [key, item] : surveyor_->current().tally.items())
      if (!key.function.empty() && (most == nullptr || item.count > most->count)) most = &item;
    return most == nullptr ? "" : most->message;
  }

  Result<SanitizeOutcome> finish() {
    // The lock is held from before the dataset is read until after it is changed.
    std::optional<Publication> publication;
    if (!options_.is_dry_run) {
      CW_TRY(publication, Publication::begin(dataset_.root));
      outcome_.recovered = publication->recovered();
    }
    CW_TRY(Json collection, known_collection(dataset_.root));
    outcome_.survey = surveyor_->finish();

    std::vector<NewWorkloads> additions;
    for (const Definition* definition : chosen_) {
      CW_TRY(auto addition, one_definition(*definition));
      if (!addition.workloads.empty()) additions.push_back(std::move(addition));
    }
    outcome_.survey.definitions.clear();  // its targets are the binder's, which ends with this call
    if (!publication) return std::move(outcome_);
    CW_CHECK(publication->publish(additions));
    collection = with_section(std::move(collection), section_of(capture_, outcome_, options_));
    CW_CHECK(publication->write(collection_file, dump_indented(collection) + "\n"));
    return std::move(outcome_);
  }

 private:
  const Target* target_of(const Definition& definition) const {
    for (const Target& target : binder_.targets())
      if (target.definition == &definition) return &target;
    return nullptr;
  }

  Result<NewWorkloads> one_definition(const Definition& definition) {
    DefinitionOutcome outcome{.definition = &definition};
    outcome.is_asked_for = !options_.definition_names.empty() || !options_.op_types.empty();
    NewWorkloads addition{&definition, {}};
    const Target* target = target_of(definition);

    if (target == nullptr) {
      const auto serving = bindings_.serving(definition);
      outcome.status = serving ? serving->front()->unbindable : serving.error().message;
      outcome.lacks_binding = !serving;
      outcome_.definitions.push_back(std::move(outcome));
      return addition;
    }

    // What was called.
    if (const auto counts = outcome_.survey.definitions.find(target);
        counts != outcome_.survey.definitions.end()) {
      outcome.calls = counts->second.calls;
      outcome.unseen = counts->second.unseen;
      outcome.distribution = counts->second.distribution;
      outcome.padded = counts->second.padded;
      outcome.derived = counts->second.derived;
      outcome.ranges = counts->second.ranges;
    }

    // Where its scalars come from.
    outcome.status = outcome.calls == 0 ? target->providers.front().binding->note : "";
    for (const Provider& provider : target->providers) {
      for (const InputBinding& input : provider.binding->inputs)
        if (!input.cite.empty()) outcome.cites.emplace(input.name, input.cite);
      for (const Assumption& assumption : provider.binding->assumptions)
        outcome.cites.emplace(assumption.name, assumption.cite);
    }

    // What is kept of it.
    std::vector<DistinctWorkload> entries = outcome_.survey.distinct.take(target);
    outcome.distinct = entries.size();
    if (retained_)
      std::erase_if(entries, [&](const DistinctWorkload& entry) {
        return retained_->find(target, entry.key) == nullptr;
      });
    share_out(outcome.distribution, entries);

    std::vector<std::size_t> selected(entries.size());
    std::iota(selected.begin(), selected.end(), 0);
    if (options_.selection == Selection::diverse) {
      std::vector<Candidate> candidates;
      for (const DistinctWorkload& entry : entries)
        candidates.push_back({entry.var_axes, entry.stands_for});
      selected = select_diverse(candidates, options_.num_samples);
    }

    if (!outcome_.survey.continues.empty()) CW_CHECK(add_published(*target, entries, selected));
    share_out(outcome.distribution, entries, selected);
    if (!selected.empty()) CW_CHECK(prepare(*target, entries, selected, outcome, addition));
    outcome_.definitions.push_back(std::move(outcome));
    return addition;
  }

  // Distributes all calls of the definition among these workloads.
  static void share_out(const Distribution& distribution, std::vector<DistinctWorkload>& entries,
                        const std::optional<std::vector<std::size_t>>& selected = {}) {
    std::vector<Representative> representatives;
    const auto add = [&](const DistinctWorkload& entry) {
      representatives.push_back({distribution.shape_of(entry.var_axes), entry.seen});
    };
    if (selected)
      for (const std::size_t i : *selected) add(entries[i]);
    else
      for (const DistinctWorkload& entry : entries) add(entry);
    const std::vector<std::uint64_t> shares = share_calls(distribution.of_shapes, representatives);
    for (std::size_t i = 0; i < shares.size(); ++i)
      entries[selected ? (*selected)[i] : i].stands_for = shares[i];
  }

  // What an interrupted part of this collection has written stays, and is reported.
  Result<void> add_published(const Target& target, const std::vector<DistinctWorkload>& entries,
                             std::vector<std::size_t>& selected) const {
    std::set<std::string> stored;
    CW_TRY(const auto lines, read_stored_workloads(dataset_.root, *target.definition));
    for (const StoredWorkload& workload : lines) stored.insert(workload.id);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      CW_TRY(const Workload workload, workload_of(target, entries[i]));
      if (stored.contains(workload_id(workload))) selected.push_back(i);
    }
    std::ranges::sort(selected);
    selected.erase(std::unique(selected.begin(), selected.end()), selected.end());
    return {};
  }

  Result<Workload> workload_of(const Target& target, const DistinctWorkload& entry) const {
    if (retained_) return *retained_->find(&target, entry.key);
    return read_again(capture_, binder_, target, entry, options_.policy);
  }

  // Gives the selected entries their ids and finds those that the dataset already has.
  Result<void> prepare(const Target& target, const std::vector<DistinctWorkload>& entries,
                       const std::vector<std::size_t>& selected, DefinitionOutcome& outcome,
                       NewWorkloads& addition) {
    const Definition& definition = *target.definition;
    CW_TRY(const auto stored, read_stored_workloads(dataset_.root, definition));
    std::vector<std::vector<std::int64_t>> axes(selected.size());
    std::vector<std::string> ids(selected.size()), lines(selected.size()), blobs(selected.size());
    CW_CHECK(run_in_parallel(selected.size(), [&](std::size_t i) -> Result<void> {
      CW_TRY(Workload workload, workload_of(target, entries[selected[i]]));
      ids[i] = workload_id(workload);
      lines[i] = workload_line(workload, ids[i]);
      blobs[i] = blob_path(workload, ids[i]);
      axes[i] = std::move(workload.axes);
      return {};
    }));

    std::set<std::string> stored_ids;
    for (const StoredWorkload& workload : stored) stored_ids.insert(workload.id);
    std::size_t unreadable = 0;
    const auto existing = index_by_content(dataset_.root, definition, stored, axes, unreadable);
    if (unreadable > 0)
      outcome_.survey.tally.add_defect(
          "existing_unreadable",
          fmt::format(
              "{}: {} workloads of the dataset have blobs that cannot be read (git lfs pull?); "
              "whether the new ones double them is not known",
              definition.name, unreadable));
    for (std::size_t i = 0; i < selected.size(); ++i) {
      const DistinctWorkload& entry = entries[selected[i]];
      // Our ids are derived from content: if the id is there, so is the workload, whether or not
      // its blob can be read.
      const auto known = existing.find(ids[i]);
      const bool is_stored = stored_ids.contains(ids[i]);
      const bool is_new = known == existing.end() && !is_stored;
      const bool lacks_blob =
          is_stored && !blobs[i].empty() && !std::filesystem::exists(dataset_.root / blobs[i]);
      outcome.kept.push_back({known == existing.end() ? ids[i] : known->second, entry.seen,
                              entry.stands_for, is_new, entry.is_capture_warmup, entry.notes});
      if (entry.is_capture_warmup)
        outcome_.survey.tally.add(
            "capture_warmup", target.providers.front().binding->function,
            "run eagerly under the plan that a CUDA graph was then captured with: an engine's "
            "warm-up with dummy lengths, not traffic",
            entry.origin.call, 1,
            entry.origin.call == Origin::none ? "" : capture_.location(entry.origin.call_place));
      if (!is_new && !lacks_blob) continue;
      addition.workloads.push_back({is_new ? lines[i] : std::string(), blobs[i],
                                    [this, &target, entry]() -> Result<std::string> {
                                      CW_TRY(const Workload workload, workload_of(target, entry));
                                      return blob_content(workload);
                                    }});
    }
    return {};
  }

  Capture& capture_;
  const Dataset& dataset_;
  const BindingSet& bindings_;
  const SanitizeOptions& options_;
  Binder binder_;
  std::vector<const Definition*> chosen_;
  std::optional<RetainedWorkloads> retained_;
  SurveyOptions survey_options_;
  std::optional<Surveyor> surveyor_;
  SanitizeOutcome outcome_;
};

Result<Sanitizer> Sanitizer::begin(Capture& capture, const Dataset& dataset,
                                   const BindingSet& bindings, const SanitizeOptions& options,
                                   Source source) {
  auto work = std::make_unique<Work>(capture, dataset, bindings, options, source);
  CW_CHECK(work->begin());
  return Sanitizer(std::move(work));
}

Sanitizer::Sanitizer(std::unique_ptr<Work> work) : work_(std::move(work)) {}
Sanitizer::Sanitizer(Sanitizer&&) noexcept = default;
Sanitizer::~Sanitizer() = default;

Result<Json> Sanitizer::restore(Checkpoint& checkpoint) {
  return work_->restore(checkpoint);
}

Result<void> Sanitizer::save(Checkpoint& checkpoint, const Json& more) const {
  return work_->save(checkpoint, more);
}

bool Sanitizer::advance(Deadline deadline) {
  return work_->advance(deadline);
}

void Sanitizer::set_starting(bool is_starting) {
  work_->set_starting(is_starting);
}

std::vector<Progress> Sanitizer::progress() const {
  return work_->progress();
}

std::uint64_t Sanitizer::calls() const {
  return work_->calls();
}

std::string Sanitizer::why_none() const {
  return work_->why_none();
}

Result<SanitizeOutcome> Sanitizer::finish() {
  return work_->finish();
}

std::size_t DefinitionOutcome::added() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(kept, [](const KeptWorkload& k) { return k.is_new; }));
}

Result<SanitizeOutcome> sanitize(Capture& capture, const Dataset& dataset,
                                 const BindingSet& bindings, const SanitizeOptions& options) {
  CW_TRY(Sanitizer sanitizer,
         Sanitizer::begin(capture, dataset, bindings, options, Sanitizer::Source::lasting));
  sanitizer.advance();
  return sanitizer.finish();
}

}  // namespace cw
