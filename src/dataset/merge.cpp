#include "dataset/merge.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <mutex>
#include <set>
#include <tuple>
#include <unordered_map>

#include <fcntl.h>
#include <sys/file.h>
#include <tbb/parallel_for.h>
#include <unistd.h>

#include "base/external_sort.h"
#include "base/hash.h"
#include "base/lines.h"
#include "base/output.h"
#include "dataset/collection_file.h"
#include "workload/selection.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr const char* merge_mark = ".collect-workloads.merge";
constexpr std::size_t max_conflicts_shown = 10;
constexpr std::size_t place_size = 3 * number_size;

// Where a line stands.
struct LinePlace {
  std::uint64_t input, offset, size;
};
void put_place(std::string& record, const LinePlace& place) {
  put(record, place.input);
  put(record, place.offset);
  put(record, place.size);
}
LinePlace take_place(std::string_view& record) {
  LinePlace place;
  place.input = take_number(record);
  place.offset = take_number(record);
  place.size = take_number(record);
  return place;
}

Result<Hash128> file_hash(const fs::path& path) {
  static thread_local std::string buffer;
  // Blobs are small, as a rule; of large ones the hash is of their pieces' hashes.
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

// A section of an input: its capture, and which list of workloads it has of each definition.
struct SectionLists {
  std::string capture;
  std::map<std::string, std::string> lists;
};

// What the captures say of a workload, over all of them.
struct Frequency {
  std::uint64_t seen = 0, stands_for = 0;
};

// Of calls whose workload is left out, among those that stay: the one whose axes are the most
// alike, the first of equals.
std::size_t heir_of(const std::vector<std::int64_t>& axes, const std::vector<Candidate>& candidates,
                    const std::vector<std::size_t>& kept) {
  const auto distance = [&axes](const Candidate& entry) {
    double sum = 0;
    for (std::size_t i = 0; i < axes.size(); ++i)
      sum += std::abs(std::log2(static_cast<double>(axes[i]) + 1) -
                      std::log2(static_cast<double>(entry.var_axes[i]) + 1));
    return sum;
  };
  return *std::min_element(kept.begin(), kept.end(), [&](std::size_t a, std::size_t b) {
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
        return fail("locked", "another collect-workloads is writing to {}; wait for it to end",
                    root.string());
      CW_CHECK(dataset.check_places());  // what is not looked at must not vanish
      locks_.push_back(std::move(lock));
      datasets_.push_back(std::move(dataset));
    }
    return {};
  }

  Result<void> begin_output() {
    std::error_code error;
    for (const fs::path& input : inputs_)
      if (is_inside(input, fs::absolute(output_, error)))
        return fail("exists", "{} lies in {}; --out takes a folder beside the datasets",
                    output_.string(), input.string());
    if (fs::exists(output_, error) &&
        !(fs::is_directory(output_, error) && fs::is_empty(output_, error)))
      return fail("exists", "{} is there already; --out takes a folder that is new or empty",
                  output_.string());
    for (const fs::path& input : inputs_)
      if (is_inside(partial_, fs::absolute(input, error)))
        return fail("exists", "{} lies in {}, which merge makes and removes; move it",
                    input.string(), partial_.string());

    // What a killed merge left is taken away; what is not ours is not touched.
    const fs::path mark = partial_ / merge_mark;
    if (fs::exists(fs::symlink_status(partial_, error)) &&
        (fs::is_symlink(partial_, error) || !fs::exists(fs::symlink_status(mark, error))))
      return fail("exists", "{} is there and is no unfinished merge; move it away",
                  partial_.string());
    CW_CHECK(make_directories(partial_));
    CW_CHECK(write_atomically(mark, "", Durability::process));
    CW_TRY(partial_lock_, open_directory(partial_));
    if (::flock(partial_lock_.get(), LOCK_EX | LOCK_NB) != 0)
      return fail("locked", "another merge is writing {}", output_.string());
    for (const auto& entry :
         fs::directory_iterator(partial_, error)) {  // of a merge that was killed
      std::error_code ignored;
      if (entry.path().filename() != merge_mark) fs::remove_all(entry.path(), ignored);
    }
    return {};
  }

  // By id and capture.
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

  // Code that computes what the definition means; empty when there is none.
  static std::string reference_of(const std::string& definition) {
    const auto json = parse_json(definition);
    return json && json->is_object() ? string_member(*json, "reference") : std::string();
  }

  Result<void> merge_definitions() {
    // By name: meaning, and who says so.
    std::map<std::string, std::pair<std::string, std::size_t>> meanings;
    std::map<std::string, std::string> files;

    // By name and text: who has it.
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
        // Descriptions may differ: the longer, then the greater.
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
            fmt::format("the reference of {} is not the same everywhere; kept is that of {}", name,
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
             read_collection(inputs_[i],
                             [&](std::size_t section, const std::string& definition, Json item) {
                               std::string record;
                               put(record, definition);
                               put(record, string_member(item, "uuid"));
                               put(record, i);
                               put(record, section);
                               record += dump(item);
                               if (auto added = seen_.add(record); !added && outcome)
                                 outcome = added;
                             }));
      CW_CHECK(outcome);

      // Sections of the same capture become one; each input's lists are kept for the calls' shares.
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

    std::string content, chosen;
    for (;;) {
      CW_TRY(const auto next, by_content.next());
      if (!next) break;
      std::string_view record = *next;
      const std::string_view this_content = take_text(record), id = take_text(record);
      const bool is_first = content != this_content;
      if (is_first) {
        content = this_content;
        chosen = id;
        ++counts.distinct;
        record.remove_prefix(2 * number_size);  // hashes of line and blob, which settle ties
        const std::string_view place = record.substr(0, place_size);
        std::string sorted(record.substr(place_size));  // var axes
        put(sorted, content);
        sorted += place;
        put(sorted, chosen);
        CW_CHECK(in_order.add(sorted));
      }
      std::string renamed;
      put(renamed, id);
      put(renamed, chosen);
      CW_CHECK(by_id.add(renamed));
      std::string used;
      put(used, id);
      put(used, definition.name);
      put(used, content);
      CW_CHECK(ids_.add(used));
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

    // Batches bound the memory; the order of the file is kept.
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
      std::mutex mutex;
      std::optional<std::pair<std::size_t, Error>> failed;  // the first in the file
      tbb::parallel_for(std::size_t{0}, batch.size(), [&](std::size_t i) {
        Item& item = batch[i];
        auto record =
            record_of(input, definition, fmt::format("{}, line {}", path.string(), item.number),
                      item.text, item.offset);
        const std::lock_guard lock(mutex);
        if (record)
          item.record = std::move(*record);
        else if (!failed || item.number < failed->first)
          failed = {item.number, record.error()};
      });
      if (failed) return tl::unexpected(failed->second);

      for (const Item& item : batch) CW_CHECK(by_content.add(item.record));
      counts.given += batch.size();
      workloads_ += batch.size();
      options_.progress(workloads_);
    }
    return {};
  }

  Result<std::string> record_of(std::size_t input, const Definition& definition,
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

    std::string record;
    put(record, identified->id);
    put(record, stored.id);
    put(record, xxh3_64(line));
    put(record, xxh3_64(hashes));
    put_place(record, {input, offset, line.size()});
    for (std::size_t i = 0; i < definition.axes.size(); ++i)
      if (!definition.axes[i].constant)
        put(record, static_cast<std::uint64_t>(identified->axes[i]));
    return record;
  }

  // `by_id` has what each id became; `in_order` the distinct workloads in the order of the file.
  Result<void> write_definition(const Definition& definition, ExternalSort& by_id,
                                ExternalSort& in_order, MergedDefinition& counts) {
    Frequencies calls;  // only for a selection
    ExternalSort joined(partial_);
    CW_CHECK(join_frequencies(definition.name, by_id, joined, calls));

    const auto is_var = [](const Axis& axis) { return !axis.constant; };
    const auto axes = static_cast<std::size_t>(
        std::count_if(definition.axes.begin(), definition.axes.end(), is_var));
    const bool selects = options_.num_samples > 0 && counts.distinct > options_.num_samples;
    std::unordered_map<std::string, std::string> heirs;  // of workloads that are left out
    std::optional<OutputFile> output;
    if (!options_.is_dry_run) {
      CW_TRY(output, OutputFile::create(partial_ / Dataset::workloads_path(definition)));
    }
    std::vector<Candidate> candidates;
    std::vector<std::string> records;
    for (;;) {
      CW_TRY(const auto next, in_order.next());
      if (!next) break;
      if (!selects) {
        CW_CHECK(write_workload(definition, next->substr(axes * number_size), output));
        ++counts.kept;
        continue;
      }
      std::string_view record = *next;
      Candidate candidate;
      for (std::size_t i = 0; i < axes; ++i)
        candidate.var_axes.push_back(static_cast<std::int64_t>(take_number(record)));
      records.emplace_back(record);
      for (const auto& [capture, frequency] : calls[id_of(record)])
        candidate.stands_for += frequency.stands_for > 0 ? frequency.stands_for : frequency.seen;
      candidates.push_back(std::move(candidate));
    }
    if (selects) {
      const std::vector<std::size_t> kept = select_diverse(candidates, options_.num_samples);
      for (const std::size_t i : kept) CW_CHECK(write_workload(definition, records[i], output));
      counts.kept = kept.size();
      for (std::size_t i = 0; i < candidates.size(); ++i)
        if (!std::binary_search(kept.begin(), kept.end(), i))
          heirs.emplace(id_of(records[i]),
                        id_of(records[heir_of(candidates[i].var_axes, candidates, kept)]));
    }
    if (output) CW_CHECK(output->flush());
    return list_frequencies(joined, heirs);
  }

  // The workload's id in a record of content, place and id.
  static std::string id_of(std::string_view record) {
    take_text(record);
    take_place(record);
    return std::string(take_text(record));
  }

  // Items of capture, definition and id, in this order. What a workload that is left out stood for,
  // its heir does.
  Result<void> list_frequencies(ExternalSort& joined,
                                const std::unordered_map<std::string, std::string>& heirs) {
    struct Bequest {
      std::string capture, name, id;
      std::uint64_t calls = 0;
    };
    Bequest last;  // several inputs may have the same item; it counts once

    // Calls of a workload that was not kept go to the one nearest to it.
    const auto hand_over = [&]() -> Result<void> {
      if (last.calls == 0) return {};
      const std::string& heir = heirs.at(last.id);
      std::string record;
      put(record, last.capture);
      put(record, last.name);
      put(record, heir);
      record += dump(Json{{"uuid", heir}, {"inherited", last.calls}});
      return listed_.add(record);
    };

    for (;;) {
      CW_TRY(const auto next, joined.next());
      if (!next) return hand_over();
      std::string_view record = *next;
      Bequest item{std::string(take_text(record)), std::string(take_text(record)),
                   std::string(take_text(record))};
      if (!heirs.contains(item.id)) {
        CW_CHECK(listed_.add(*next));
        continue;
      }

      item.calls = unsigned_member(parse_json(record).value_or(Json::object()), "stands_for");
      selected_.emplace(item.capture, item.name);
      if (std::tie(item.capture, item.name, item.id) ==
          std::tie(last.capture, last.name, last.id)) {
        last.calls = std::max(last.calls, item.calls);
      } else {
        CW_CHECK(hand_over());
        last = std::move(item);
      }
    }
  }

  Result<void> write_workload(const Definition& definition, std::string_view record,
                              std::optional<OutputFile>& output) {
    take_text(record);
    const LinePlace place = take_place(record);

    // The line as it is in its input.
    if (!output) return {};
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
            fmt::format("{} has several contents, one in {}", blob, root.string()));
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
      CW_TRY(const auto next, by_id.next());
      if (!next) break;
      std::string_view renamed = *next;
      const std::string id(take_text(renamed)), chosen(take_text(renamed));

      while (seen_now_) {
        std::string_view record = *seen_now_;
        if (take_text(record) != name) break;
        const std::string_view seen_id = take_text(record);
        if (seen_id > id) break;
        if (seen_id == id) {
          const std::uint64_t input = take_number(record), section = take_number(record);
          const SectionLists& of_section = section_lists_[input][section];
          const std::string& capture = of_section.capture;
          auto item = parse_json(record);

          if (item && item->is_object()) {
            (*item)["uuid"] = chosen;
            // As this program writes it, whoever wrote this one: last, and a count.
            item->erase("inherited");
            if (const std::uint64_t shared = unsigned_member(*item, "stands_for");
                item->erase("stands_for") > 0)
              (*item)["stands_for"] = shared;

            // Calls are shared out among the workloads of one list; of another list of the same
            // capture, not again.
            const auto list = of_section.lists.find(name);
            if (item->contains("stands_for") && list != of_section.lists.end() &&
                list->second != sections_.at(capture).definitions.at(name).list())
              (*item)["stands_for"] = 0;

            if (options_.num_samples > 0) {
              Frequency& frequency = calls[chosen][capture];
              frequency.seen = std::max(frequency.seen, unsigned_member(*item, "seen"));
              frequency.stands_for =
                  std::max(frequency.stands_for, unsigned_member(*item, "stands_for"));
            }

            std::string out;
            put(out, capture);
            put(out, name);
            put(out, chosen);
            out += dump(*item);
            CW_CHECK(joined.add(out));
          }
        }
        CW_CHECK(advance_seen());
      }
    }
    return skip_seen(name);
  }

  Result<void> advance_seen() {
    CW_TRY(const auto next, seen_.next());
    seen_now_ = next ? std::optional<std::string>(*next) : std::nullopt;
    return {};
  }
  std::string_view seen_definition() const {
    std::string_view record = *seen_now_;
    return take_text(record);
  }
  Result<void> skip_seen_before(const std::string& name) {
    if (!has_begun_seen_) CW_CHECK(advance_seen());
    has_begun_seen_ = true;
    while (seen_now_ && seen_definition() < name) CW_CHECK(advance_seen());
    return {};
  }
  // Items of workloads that are not there.
  Result<void> skip_seen(const std::string& name) {
    CW_CHECK(skip_seen_before(name));
    while (seen_now_ && seen_definition() == name) CW_CHECK(advance_seen());
    return {};
  }

  Result<void> find_ids_used_twice() {
    std::string last_id, last;
    for (;;) {
      CW_TRY(const auto next, ids_.next());
      if (!next) return {};
      std::string_view record = *next;
      const std::string_view id = take_text(record);
      if (id == last_id && record != last && conflicts_.size() < 1'000'000) {
        const std::string_view definition = take_text(record);
        conflicts_.push_back(fmt::format("id {} of {} has several contents", id, definition));
      }
      last_id = id;
      last = std::string_view(*next).substr(id.size() + 1);
    }
  }

  Result<void> write_collection() {
    if (sections_.empty() || options_.is_dry_run) return {};
    CW_TRY(OutputFile output, OutputFile::create(partial_ / collection_file));
    std::optional<std::string> item;
    const auto advance = [&]() -> Result<void> {
      CW_TRY(const auto next, listed_.next());
      item = next ? std::optional<std::string>(*next) : std::nullopt;
      return {};
    };
    CW_CHECK(advance());
    CW_CHECK(output.write("{\n \"format\": 1,\n \"captures\": ["));
    const char* separator = "\n";
    for (const auto& [id, section] : sections_) {
      std::string head = dump(section.marked_head());
      head.pop_back();
      CW_CHECK(output.write(separator + head + ",\n   \"definitions\": {"));
      separator = ",\n";
      const char* definition_separator = "\n";
      for (const auto& [name, definition] : section.definitions) {
        Json marked = definition.head;
        // What is left of a list is another list.
        if (selected_.contains({id, name}) && !definition.list().empty()) {
          marked["kept"] = options_.num_samples;
          marked["list"] = uuid_v5(fmt::format("{}\n{}", definition.list(), options_.num_samples));
        }
        std::string text = dump(marked);
        text.pop_back();
        const char* comma = definition.head.empty() ? "" : ", ";
        if (!definition.distribution.empty()) {
          text += fmt::format("{}\"distribution\": {}", comma, definition.distribution);
          comma = ", ";
        }
        CW_CHECK(output.write(fmt::format("{}    {}: {}{}\"workloads\": [", definition_separator,
                                          dump(Json(name)), text, comma)));
        definition_separator = ",\n";
        const char* item_separator = "\n     ";
        std::string prefix;
        put(prefix, id);
        put(prefix, name);
        // Sorted by capture, definition and id; items of sections that do not list the definition
        // fall between.
        while (item && std::string_view(*item).substr(0, prefix.size()) < prefix)
          CW_CHECK(advance());
        while (item && item->starts_with(prefix)) {
          std::string_view record = std::string_view(*item).substr(prefix.size());
          const std::string uuid(take_text(record));
          Json joined;
          std::uint64_t inherited = 0;
          for (;;) {
            Json other = parse_json(record).value_or(Json::object());
            inherited += unsigned_member(other, "inherited");
            if (!other.contains("inherited"))
              joined = joined.is_null() ? std::move(other)
                                        : join_seen(std::move(joined), std::move(other));
            CW_CHECK(advance());
            if (!item || !item->starts_with(prefix)) break;
            record = std::string_view(*item).substr(prefix.size());
            if (take_text(record) != uuid) break;
          }
          if (joined.is_null()) joined = {{"uuid", uuid}, {"seen", 0}};
          if (inherited > 0)
            joined["stands_for"] = unsigned_member(joined, "stands_for") + inherited;
          CW_CHECK(output.write(item_separator + dump(joined)));
          item_separator = ",\n     ";
        }
        CW_CHECK(output.write("]}"));
      }
      CW_CHECK(output.write("}}"));
    }
    CW_CHECK(output.write("\n ]\n}\n"));
    return output.flush();
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
  ExternalSort seen_{partial_};    ///< definition, id, input, section; the item
  ExternalSort ids_{partial_};     ///< id, definition, content
  ExternalSort listed_{partial_};  ///< capture, definition, id; the item
  std::optional<std::string> seen_now_;
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
