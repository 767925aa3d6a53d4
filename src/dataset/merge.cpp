#include "dataset/merge.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <set>
#include <tuple>
#include <unordered_map>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/external_sort.h"
#include "base/hash.h"
#include "base/lines.h"
#include "base/output.h"
#include "base/parallel.h"
#include "dataset/collection_file.h"
#include "dataset/merge_records.h"
#include "workload/selection.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr const char* merge_mark = ".collect-workloads.merge";
constexpr std::size_t max_conflicts = 1'000'000, max_conflicts_shown = 10;

Result<Hash128> file_hash(const fs::path& path) {
  static thread_local std::string buffer;
  // Blobs are usually small; a large one gets the hash of its pieces' hashes.
  constexpr std::uint64_t piece = std::uint64_t{1} << 20;
  CW_TRY(const FileDescriptor file, open_for_reading(AT_FDCWD, path.string()));
  CW_TRY(const std::uint64_t size, file_size(file, path.string()));
  std::string hashes;
  for (std::uint64_t position = 0; position < size; position += piece) {
    buffer.resize(static_cast<std::size_t>(std::min(piece, size - position)));
    CW_CHECK(read_exactly(file, position, buffer.size(), buffer.data(), path.string()));
    const Hash128 hash = xxh3(buffer);
    put(hashes, hash.high);
    put(hashes, hash.low);
  }
  return xxh3(hashes);
}

// A section of an input: its capture, and its list of workloads for each definition.
struct SectionLists {
  std::string capture;
  std::map<std::string, std::string> lists;
};

// What all captures together say about a workload.
struct Frequency {
  std::uint64_t seen = 0, stands_for = 0;
};

// The kept workload that inherits the calls of one left out: the one with the most similar axes,
// the first on a tie.
std::size_t heir_of(const std::vector<std::int64_t>& axes, const std::vector<Candidate>& candidates,
                    const std::vector<std::size_t>& kept) {
  const auto distance = [&axes](const Candidate& entry) {
    double sum = 0;
    for (std::size_t i = 0; i < axes.size(); ++i)
      sum += std::abs(std::log2(static_cast<double>(axes[i]) + 1) -
                      std::log2(static_cast<double>(entry.var_axes[i]) + 1));
    return sum;
  };
  return *std::ranges::min_element(kept, [&](std::size_t a, std::size_t b) {
    return distance(candidates[a]) < distance(candidates[b]);
  });
}

fs::path without_slash(const fs::path& path) {
  const fs::path normal = path.lexically_normal();
  return normal.has_filename() ? normal : normal.parent_path();
}

class Merger {
 public:
  Merger(const std::vector<fs::path>& inputs, const fs::path& output, const MergeOptions& options)
      : inputs_(inputs), output_(without_slash(output)), options_(options) {}

  Result<MergeOutcome> run() {
    CW_CHECK(open_inputs());
    CW_CHECK(begin_output());
    auto merged = merge_all();
    if (!merged || options_.is_dry_run) {
      std::error_code ignored;
      fs::remove_all(partial_, ignored);
    }
    if (!merged) return tl::unexpected(merged.error());
    return std::move(outcome_);
  }

 private:
  Result<void> open_inputs() {
    for (const fs::path& root : inputs_) {
      CW_TRY(auto dataset, Dataset::open(root));
      if (!dataset.bad_definitions.empty()) return tl::unexpected(dataset.bad_definitions[0].error);
      CW_TRY(auto lock, open_directory(root));
      if (::flock(lock.get(), LOCK_SH | LOCK_NB) != 0)
        return fail("locked",
                    "another collect-workloads is writing to {}; wait until it has finished",
                    root.string());
      CW_CHECK(dataset.check_places());  // what is not read must not get lost
      locks_.push_back(std::move(lock));
      datasets_.push_back(std::move(dataset));
    }
    return {};
  }

  Result<void> begin_output() {
    std::error_code error;
    for (const fs::path& input : inputs_)
      if (is_inside(input, fs::absolute(output_, error)))
        return fail("exists", "{} is inside {}; --out takes a folder outside the datasets",
                    output_.string(), input.string());
    if (fs::exists(output_, error) &&
        !(fs::is_directory(output_, error) && fs::is_empty(output_, error)))
      return fail("exists", "{} already exists; --out takes a folder that is new or empty",
                  output_.string());
    for (const fs::path& input : inputs_)
      if (is_inside(partial_, fs::absolute(input, error)))
        return fail("exists", "{} is inside {}, which merge creates and removes; move it",
                    input.string(), partial_.string());

    // Remove what a killed merge left; do not touch what is not ours.
    const fs::path mark = partial_ / merge_mark;
    if (fs::exists(fs::symlink_status(partial_, error)) &&
        (fs::is_symlink(partial_, error) || !fs::exists(fs::symlink_status(mark, error))))
      return fail("exists", "{} exists and is not an unfinished merge; move it away",
                  partial_.string());
    CW_CHECK(make_directories(partial_));
    CW_CHECK(write_atomically(mark, "", Durability::process));
    CW_TRY(partial_lock_, open_directory(partial_));
    if (::flock(partial_lock_.get(), LOCK_EX | LOCK_NB) != 0)
      return fail("locked", "another merge is writing {}", output_.string());
    for (const auto& entry : fs::directory_iterator(partial_, error)) {  // left by a killed merge
      std::error_code ignored;
      if (entry.path().filename() != merge_mark) fs::remove_all(entry.path(), ignored);
    }
    return {};
  }

  // Keyed by id, then capture.
  using Frequencies = std::unordered_map<std::string, std::map<std::string, Frequency>>;

  Result<void> merge_all() {
    CW_CHECK(merge_definitions());
    if (!conflicts_.empty()) return conflict();
    CW_CHECK(read_collections());
    for (const auto& [name, definition] : definitions_) CW_CHECK(merge_definition(*definition));
    CW_CHECK(find_ids_used_twice());
    if (!conflicts_.empty()) return conflict();
    CW_CHECK(write_collection());
    if (options_.is_dry_run) return {};
    std::error_code ignored;
    fs::remove(partial_ / merge_mark, ignored);
    if (::syncfs(partial_lock_.get()) != 0)
      return fail("unwritable", "cannot write {}: {}", partial_.string(), std::strerror(errno));
    std::error_code error;
    fs::rename(partial_, output_, error);
    if (error)
      return fail("unwritable", "cannot rename {} to {}: {}", partial_.string(), output_.string(),
                  error.message());
    return sync_directory(fs::absolute(output_).parent_path());
  }

  tl::unexpected<Error> conflict() const {
    std::string text = fmt::format(
        "these datasets contradict each other ({} places); nothing was written", conflicts_.size());
    for (std::size_t i = 0; i < std::min(conflicts_.size(), max_conflicts_shown); ++i)
      text += "\n" + conflicts_[i];
    if (conflicts_.size() > max_conflicts_shown) text += "\n…";
    return tl::unexpected(Error{"conflict", std::move(text)});
  }

  // The code that implements the definition; empty if there is none.
  static std::string reference_of(const std::string& definition) {
    const auto json = parse_json(definition);
    return json && json->is_object() ? string_member(*json, "reference") : std::string();
  }

  Result<void> merge_definitions() {
    // By name: the meaning, and the first input that has it.
    std::map<std::string, std::pair<std::string, std::size_t>> meanings;
    std::map<std::string, std::string> files;

    // By name and text: the inputs that have it.
    std::map<std::string, std::map<std::string, std::vector<std::string>>> references;
    for (std::size_t i = 0; i < datasets_.size(); ++i) {
      for (const Definition& definition : datasets_[i].definitions) {
        const auto [known, is_new] =
            meanings.emplace(definition.name, std::pair(meaning(definition), i));
        if (!is_new && known->second.first != meaning(definition)) {
          conflicts_.push_back(fmt::format("definition {} is not the same in {} and {}",
                                           definition.name, inputs_[known->second.second].string(),
                                           inputs_[i].string()));
          continue;
        }
        // Descriptions may differ: prefer the longer, then the greater.
        CW_TRY(std::string text,
               read_file(AT_FDCWD,
                         (inputs_[i] / datasets_[i].definition_paths.at(definition.name)).string(),
                         64 << 20));
        references[definition.name][reference_of(text)].push_back(inputs_[i].string());
        std::string& file = files[definition.name];
        if (std::pair(text.size(), std::string_view(text)) >
            std::pair(file.size(), std::string_view(file))) {
          file = std::move(text);
          definitions_[definition.name] = &definition;
        }
      }
    }
    for (const auto& [name, texts] : references)
      if (texts.size() > 1 && !files[name].empty())
        outcome_.differences.push_back(
            fmt::format("the reference of {} is not the same everywhere; that of {} is kept", name,
                        texts.at(reference_of(files[name])).front()));
    for (const auto& [name, definition] : definitions_) {
      CW_TRY(OutputFile output,
             OutputFile::create(partial_ / "definitions" / definition->op_type / (name + ".json")));
      CW_CHECK(output.write(files[name]));
      CW_CHECK(output.flush());
    }
    return {};
  }

  Result<void> read_collections() {
    std::map<std::string, CollectionSection> joined;
    std::vector<std::vector<std::string>> ids;
    Result<void> outcome;

    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      CW_TRY(const auto sections,
             read_collection(inputs_[i], [&](std::size_t section, const std::string& definition,
                                             Json item) {
               const SeenItem seen{definition, string_member(item, "uuid"), i, section, dump(item)};
               if (auto added = seen_.add(seen.encode()); !added && outcome) outcome = added;
             }));
      CW_CHECK(outcome);

      // Sections of the same capture become one; each input's lists are kept to share out the
      // calls.
      std::vector<SectionLists>& lists = section_lists_.emplace_back();
      for (const CollectionSection& section : sections) {
        SectionLists& of_section = lists.emplace_back(SectionLists{section.id(), {}});
        for (const auto& [name, definition] : section.definitions)
          of_section.lists.emplace(name, definition.list());
        const auto [known, is_new] = joined.emplace(section.id(), section);
        if (!is_new) join(known->second, section);
      }
    }

    sections_ = std::move(joined);
    outcome_.captures = sections_.size();
    for (const auto& [id, section] : sections_) outcome_.simulated += section.is_simulated;
    return {};
  }

  // One definition: sort by content, choose, join the frequencies, write.
  Result<void> merge_definition(const Definition& definition) {
    MergedDefinition counts{.name = definition.name};
    ExternalSort by_content(partial_), by_id(partial_), in_order(partial_);
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      if (datasets_[i].find(definition.name) != nullptr)
        CW_CHECK(read_lines(i, *datasets_[i].find(definition.name), by_content, counts));
    if (counts.given == 0) return skip_seen(definition.name);

    // The first line with a given content gives the workload, and the id that all others get.
    std::string content, chosen;
    for (;;) {
      CW_TRY(auto line, next_of<InputLine>(by_content));
      if (!line) break;
      CW_CHECK(ids_.add(UsedId{line->id, definition.name, line->content}.encode()));
      if (content != line->content) {
        content = line->content;
        chosen = line->id;
        ++counts.distinct;
        CW_CHECK(in_order.add(
            DistinctLine{std::move(line->var_axes), content, line->place, chosen}.encode()));
      }
      CW_CHECK(by_id.add(RenamedId{std::move(line->id), chosen}.encode()));
    }
    CW_CHECK(write_definition(definition, by_id, in_order, counts));
    outcome_.definitions.push_back(std::move(counts));
    return {};
  }

  Result<void> read_lines(std::size_t input, const Definition& definition, ExternalSort& by_content,
                          MergedDefinition& counts) {
    const fs::path path = inputs_[input] / Dataset::workloads_file(inputs_[input], definition);
    auto lines = LineReader::open(path);
    if (!lines && lines.error().code == "not_found") return {};
    if (!lines) return tl::unexpected(lines.error());

    struct Item {
      std::string text, record;
      std::uint64_t offset;
      std::size_t number;
    };
    std::vector<Item> batch;

    // Batches bound memory use; file order is preserved.
    for (bool is_more = true; is_more;) {
      batch.clear();
      std::size_t bytes = 0;
      while (batch.size() < batch_lines && bytes < batch_bytes) {
        CW_TRY(const auto line, lines->next());
        is_more = line.has_value();
        if (!line) break;
        batch.push_back({std::string(line->text), {}, line->offset, line->number});
        bytes += line->text.size();
      }

      // Identifying hashes blobs, so a batch is done in parallel.
      CW_CHECK(run_in_parallel(batch.size(), [&](std::size_t i) -> Result<void> {
        Item& item = batch[i];
        const std::string where = fmt::format("{}, line {}", path.string(), item.number);
        CW_TRY(const InputLine line, line_of(input, definition, where, item.text, item.offset));
        item.record = line.encode();
        return {};
      }));
      for (const Item& item : batch) CW_CHECK(by_content.add(item.record));
      counts.given += batch.size();
      workloads_ += batch.size();
      options_.progress(workloads_);
    }
    return {};
  }

  Result<InputLine> line_of(std::size_t input, const Definition& definition,
                            const std::string& where, const std::string& line,
                            std::uint64_t offset) const {
    CW_TRY(const StoredWorkload stored, parse_stored_workload(line, where));
    if (stored.definition != definition.name)
      return fail("misplaced", "{}: a workload of {} in the file of {}; run validate", where,
                  stored.definition, definition.name);

    const auto identified = identify(inputs_[input], definition, stored.json);
    if (!identified)
      return fail(identified.error().code, "{}: {}", where, identified.error().message);
    if (stored.id.find('\0') != std::string::npos)
      return fail("workloads_invalid", "{}: a zero byte in its id", where);

    // Blobs are compared by their bytes, not by their names.
    std::string hashes;
    for (const std::string& blob : identified->blobs) {
      CW_TRY(const Hash128 hash, file_hash(inputs_[input] / blob));
      put(hashes, hash.high);
      put(hashes, hash.low);
    }

    InputLine result{.content = identified->id,
                     .id = stored.id,
                     .line_hash = xxh3_64(line),
                     .blobs_hash = xxh3_64(hashes),
                     .place = {input, offset, line.size()},
                     .var_axes = {}};
    for (std::size_t i = 0; i < definition.axes.size(); ++i)
      if (!definition.axes[i].constant) result.var_axes.push_back(identified->axes[i]);
    return result;
  }

  // `by_id` has what each id became; `in_order` the distinct workloads in file order.
  Result<void> write_definition(const Definition& definition, ExternalSort& by_id,
                                ExternalSort& in_order, MergedDefinition& counts) {
    Frequencies calls;  // only for a selection
    ExternalSort joined(partial_);
    CW_CHECK(join_frequencies(definition.name, by_id, joined, calls));

    const auto is_var = [](const Axis& axis) { return !axis.constant; };
    const auto axes = static_cast<std::size_t>(std::ranges::count_if(definition.axes, is_var));
    const bool selects = options_.num_samples > 0 && counts.distinct > options_.num_samples;
    std::optional<OutputFile> output;
    if (!options_.is_dry_run) {
      CW_TRY(output, OutputFile::create(partial_ / Dataset::workloads_path(definition)));
    }
    std::vector<DistinctLine> lines;  // only for a selection
    for (;;) {
      CW_TRY(auto line, next_of<DistinctLine>(in_order, axes));
      if (!line) break;
      if (selects) {
        lines.push_back(std::move(*line));
      } else {
        CW_CHECK(write_workload(definition, *line, output));
        ++counts.kept;
      }
    }

    std::unordered_map<std::string, std::string> heirs;  // of workloads left out
    if (selects) {
      std::vector<Candidate> candidates;
      for (const DistinctLine& line : lines) {
        Candidate& candidate = candidates.emplace_back(Candidate{line.var_axes, 0});
        for (const auto& [capture, frequency] : calls[line.id])
          candidate.stands_for += frequency.stands_for > 0 ? frequency.stands_for : frequency.seen;
      }
      const std::vector<std::size_t> kept = select_diverse(candidates, options_.num_samples);
      for (const std::size_t i : kept) CW_CHECK(write_workload(definition, lines[i], output));
      counts.kept = kept.size();
      for (std::size_t i = 0; i < lines.size(); ++i)
        if (!std::ranges::binary_search(kept, i))
          heirs.emplace(lines[i].id, lines[heir_of(lines[i].var_axes, candidates, kept)].id);
    }
    if (output) CW_CHECK(output->flush());
    return list_frequencies(joined, heirs);
  }

  // Items by capture, definition and id, in this order. What a left-out workload stood for goes to
  // its heir.
  Result<void> list_frequencies(ExternalSort& joined,
                                const std::unordered_map<std::string, std::string>& heirs) {
    ListedItem last;  // several inputs may have the same item; it counts once
    std::uint64_t calls = 0;

    // Calls of a workload that was not kept go to the nearest kept one.
    const auto hand_over = [&]() -> Result<void> {
      if (calls == 0) return {};
      last.id = heirs.at(last.id);
      last.json = dump(Json{{"uuid", last.id}, {"inherited", calls}});
      return listed_.add(last.encode());
    };

    for (;;) {
      CW_TRY(auto item, next_of<ListedItem>(joined));
      if (!item) return hand_over();
      if (!heirs.contains(item->id)) {
        CW_CHECK(listed_.add(item->encode()));
        continue;
      }

      selected_.emplace(item->capture, item->definition);
      const std::uint64_t stands_for =
          unsigned_member(parse_json(item->json).value_or(Json::object()), "stands_for");
      if (std::tie(item->capture, item->definition, item->id) ==
          std::tie(last.capture, last.definition, last.id)) {
        calls = std::max(calls, stands_for);
      } else {
        CW_CHECK(hand_over());
        last = std::move(*item);
        calls = stands_for;
      }
    }
  }

  Result<void> write_workload(const Definition& definition, const DistinctLine& distinct,
                              std::optional<OutputFile>& output) {
    if (!output) return {};

    // The line as it is in its input.
    const LinePlace& place = distinct.place;
    const fs::path& root = inputs_[place.input];
    const fs::path path =
        root / Dataset::workloads_file(root, *datasets_[place.input].find(definition.name));
    std::string line(place.size, '\0');
    if (line_file_name_ != path) {
      CW_TRY(line_file_, open_for_reading(AT_FDCWD, path.string()));
      line_file_name_ = path;
    }

    CW_CHECK(read_exactly(line_file_, place.offset, line.size(), line.data(), path.string()));
    CW_CHECK(output->write(line));
    CW_CHECK(output->write("\n"));

    // And the blobs that it names, once each.
    CW_TRY(const StoredWorkload stored, parse_stored_workload(line, path.string()));
    if (!stored.json.contains("inputs")) return {};
    std::set<std::string> blobs;
    for (const auto& [name, input] : stored.json.at("inputs").items())
      if (const std::string blob = string_member(input, "path");
          string_member(input, "type") == "safetensors")
        blobs.insert(fs::path(blob).lexically_normal().string());
    for (const std::string& blob : blobs) CW_CHECK(place_blob(root, blob));
    return {};
  }

  Result<void> place_blob(const fs::path& root, const std::string& blob) {
    const fs::path from = root / blob, to = partial_ / blob;
    if (to.parent_path() != last_folder_) {
      CW_CHECK(make_directories(to.parent_path()));
      last_folder_ = to.parent_path();
    }
    CW_TRY(const Duplication how, duplicate_file(from, to));
    if (how == Duplication::exists) {
      CW_TRY(const Hash128 ours, file_hash(from));
      CW_TRY(const Hash128 theirs, file_hash(to));
      if (ours != theirs)
        conflicts_.push_back(
            fmt::format("{} has several contents, one of them in {}", blob, root.string()));
      return {};
    }
    ++(how == Duplication::linked ? outcome_.linked : outcome_.copied);
    std::error_code error;
    outcome_.bytes += fs::file_size(to, error);
    return {};
  }

  // Items of collection.json under the ids that their workloads have now. Both come sorted by
  // definition and id.
  Result<void> join_frequencies(const std::string& name, ExternalSort& by_id, ExternalSort& joined,
                                Frequencies& calls) {
    CW_CHECK(skip_seen_before(name));

    // Both lists are sorted by id: a merge join.
    for (;;) {
      CW_TRY(const auto renamed, next_of<RenamedId>(by_id));
      if (!renamed) return skip_seen(name);
      while (seen_now_ && seen_now_->definition == name && seen_now_->id <= renamed->id) {
        if (seen_now_->id == renamed->id)
          CW_CHECK(join_item(*seen_now_, renamed->chosen, joined, calls));
        CW_CHECK(advance_seen());
      }
    }
  }

  // An item under the id that its workload has now.
  Result<void> join_item(const SeenItem& seen, const std::string& id, ExternalSort& joined,
                         Frequencies& calls) {
    const SectionLists& of_section = section_lists_[seen.input][seen.section];
    auto item = parse_json(seen.json);
    if (!item || !item->is_object()) return {};

    // As this program writes it, whatever wrote this one: `stands_for` last, and as a count.
    (*item)["uuid"] = id;
    item->erase("inherited");
    if (const std::uint64_t shared = unsigned_member(*item, "stands_for");
        item->erase("stands_for") > 0)
      (*item)["stands_for"] = shared;

    // Calls are shared out among the workloads of one list; not again for another list of the same
    // capture.
    const CollectionSection& section = sections_.at(of_section.capture);
    const auto list = of_section.lists.find(seen.definition);
    if (item->contains("stands_for") && list != of_section.lists.end() &&
        list->second != section.definitions.at(seen.definition).list())
      (*item)["stands_for"] = 0;

    if (options_.num_samples > 0) {
      Frequency& frequency = calls[id][of_section.capture];
      frequency.seen = std::max(frequency.seen, unsigned_member(*item, "seen"));
      frequency.stands_for = std::max(frequency.stands_for, unsigned_member(*item, "stands_for"));
    }
    return joined.add(ListedItem{of_section.capture, seen.definition, id, dump(*item)}.encode());
  }

  Result<void> advance_seen() {
    CW_TRY(seen_now_, next_of<SeenItem>(seen_));
    return {};
  }
  Result<void> skip_seen_before(const std::string& name) {
    if (!has_begun_seen_) CW_CHECK(advance_seen());
    has_begun_seen_ = true;
    while (seen_now_ && seen_now_->definition < name) CW_CHECK(advance_seen());
    return {};
  }
  // Skips items of workloads that are not there.
  Result<void> skip_seen(const std::string& name) {
    CW_CHECK(skip_seen_before(name));
    while (seen_now_ && seen_now_->definition == name) CW_CHECK(advance_seen());
    return {};
  }

  Result<void> find_ids_used_twice() {
    UsedId last;
    for (;;) {
      CW_TRY(auto used, next_of<UsedId>(ids_));
      if (!used) return {};
      const bool is_same =
          std::tie(used->definition, used->content) == std::tie(last.definition, last.content);
      if (used->id == last.id && !is_same && conflicts_.size() < max_conflicts)
        conflicts_.push_back(
            fmt::format("id {} of {} has several contents", used->id, used->definition));
      last = std::move(*used);
    }
  }

  // collection.json, item by item: neither a section nor a list needs to fit in memory.
  Result<void> write_collection() {
    if (sections_.empty() || options_.is_dry_run) return {};
    CW_TRY(OutputFile output, OutputFile::create(partial_ / collection_file));
    CW_CHECK(advance_listed());
    CW_CHECK(output.write("{\n \"format\": 1,\n \"captures\": ["));
    const char* separator = "\n";
    for (const auto& [id, section] : sections_) {
      std::string head = dump(section.marked_head());
      head.pop_back();
      CW_CHECK(output.write(separator + head + ",\n   \"definitions\": {"));
      separator = ",\n";
      CW_CHECK(write_definitions(id, section, output));
      CW_CHECK(output.write("}}"));
    }
    CW_CHECK(output.write("\n ]\n}\n"));
    return output.flush();
  }

  Result<void> write_definitions(const std::string& capture, const CollectionSection& section,
                                 OutputFile& output) {
    const char* separator = "\n";
    for (const auto& [name, definition] : section.definitions) {
      Json head = definition.head;

      // A reduced list is a different list.
      if (selected_.contains({capture, name}) && !definition.list().empty()) {
        head["kept"] = options_.num_samples;
        head["list"] = uuid_v5(fmt::format("{}\n{}", definition.list(), options_.num_samples));
      }
      std::string text = dump(head);
      text.pop_back();

      const char* comma = definition.head.empty() ? "" : ", ";
      if (!definition.distribution.empty()) {
        text += fmt::format("{}\"distribution\": {}", comma, definition.distribution);
        comma = ", ";
      }
      CW_CHECK(output.write(
          fmt::format("{}    {}: {}{}\"workloads\": [", separator, dump(Json(name)), text, comma)));
      separator = ",\n";
      CW_CHECK(write_list(capture, name, output));
      CW_CHECK(output.write("]}"));
    }
    return {};
  }

  Result<void> write_list(const std::string& capture, const std::string& name, OutputFile& output) {
    // Items of sections that do not list the definition come in between.
    const auto wanted = std::tie(capture, name);
    const auto list_of = [](const ListedItem& item) {
      return std::tie(item.capture, item.definition);
    };
    while (listed_now_ && list_of(*listed_now_) < wanted) CW_CHECK(advance_listed());

    const char* separator = "\n     ";
    while (listed_now_ && list_of(*listed_now_) == wanted) {
      // Everything the inputs say about one workload, and what it inherited from others.
      const std::string id = listed_now_->id;
      Json joined;
      std::uint64_t inherited = 0;
      while (listed_now_ && list_of(*listed_now_) == wanted && listed_now_->id == id) {
        Json item = parse_json(listed_now_->json).value_or(Json::object());
        inherited += unsigned_member(item, "inherited");
        if (!item.contains("inherited"))
          joined =
              joined.is_null() ? std::move(item) : join_seen(std::move(joined), std::move(item));
        CW_CHECK(advance_listed());
      }

      if (joined.is_null()) joined = {{"uuid", id}, {"seen", 0}};
      if (inherited > 0) joined["stands_for"] = unsigned_member(joined, "stands_for") + inherited;
      CW_CHECK(output.write(separator + dump(joined)));
      separator = ",\n     ";
    }
    return {};
  }

  Result<void> advance_listed() {
    CW_TRY(listed_now_, next_of<ListedItem>(listed_));
    return {};
  }

  const std::vector<fs::path>& inputs_;
  const fs::path output_, partial_ = output_.string() + std::string(partial_suffix);
  const MergeOptions& options_;
  std::vector<Dataset> datasets_;
  std::vector<FileDescriptor> locks_;
  FileDescriptor partial_lock_;
  std::map<std::string, const Definition*> definitions_;
  std::map<std::string, CollectionSection> sections_;
  std::vector<std::vector<SectionLists>> section_lists_;  ///< by input and place
  ExternalSort seen_{partial_};                           ///< of SeenItem
  ExternalSort ids_{partial_};                            ///< of UsedId
  ExternalSort listed_{partial_};                         ///< of ListedItem
  std::optional<SeenItem> seen_now_;
  std::optional<ListedItem> listed_now_;
  /// Captures and definitions of which workloads are left out.
  std::set<std::pair<std::string, std::string>> selected_;
  bool has_begun_seen_ = false;
  std::vector<std::string> conflicts_;
  std::size_t workloads_ = 0;
  fs::path last_folder_, line_file_name_;
  FileDescriptor line_file_;
  MergeOutcome outcome_;
};

}  // namespace

Result<MergeOutcome> merge(const std::vector<fs::path>& inputs, const fs::path& output,
                           const MergeOptions& options) {
  return Merger(inputs, output, options).run();
}

}  // namespace cw
