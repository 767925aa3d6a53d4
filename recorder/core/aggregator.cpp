#include "aggregator.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <xxhash.h>

#include "recording/frame.h"

namespace cw::recorder {
namespace {

using recording::RecordKind;
using recording::Role;
using recording::ValueState;

// Contents may take this share of the budget; the rest is for counts.
constexpr double share_of_contents = 0.9, share_of_groups = 0.98;
constexpr std::size_t max_signatures = 500'000, max_wrappers = 100'000,
                      max_remembered_contents = 500'000;
constexpr std::size_t end_size = 400, end_size_per_function = 40;  // for the last record, at most
constexpr std::size_t max_recent = 8192;
// The most that is lost if a disk fills up or a process is killed.
constexpr std::size_t groups_per_frame = 256;

std::pair<std::uint64_t, std::uint64_t> hash_of(std::span<const std::byte> bytes,
                                                std::uint64_t seed = 0) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(bytes.data(), bytes.size(), seed);
  return {hash.high64, hash.low64};
}

Json::binary_t to_binary(const std::pair<std::uint64_t, std::uint64_t>& hash) {
  Json::binary_t bytes;
  for (const std::uint64_t half : {hash.first, hash.second})
    for (int shift = 56; shift >= 0; shift -= 8)
      bytes.push_back(static_cast<std::uint8_t>(half >> shift));
  return bytes;
}

// An element of an index tensor, read as a length.
std::uint64_t length_at(const Content& content, std::uint64_t place) {
  std::int64_t length = 0;
  if (content.element_size == 4) {
    std::int32_t narrow;
    std::memcpy(&narrow, content.data + place * 4, 4);
    length = narrow;
  } else if (content.element_size == 8) {
    std::memcpy(&length, content.data + place * 8, 8);
  }
  return length < 0 ? 0 : static_cast<std::uint64_t>(length);
}

std::uint64_t first_of(const Content& content) {
  return content.count == 0 ? 0 : length_at(content, 0);
}

std::uint64_t last_of(const Content& content) {
  return content.count == 0 ? 0 : length_at(content, content.count - 1);
}

std::span<const std::byte> bytes_of(const std::vector<std::uint64_t>& numbers) {
  return std::as_bytes(std::span(numbers));
}

}  // namespace

Aggregator::Aggregator(Queue& queue, Staging& staging, const AggregatorOptions& options)
    : queue_(queue), staging_(staging), options_(options) {}

std::uint64_t Aggregator::now() const {
  const auto elapsed = std::chrono::steady_clock::now() - started_;
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(elapsed).count());
}

bool Aggregator::write(RecordKind kind, Json record) {
  record["record"] = recording::name(kind);
  std::string payload;
  Json::to_cbor(record, payload);
  const std::string frame = recording::make_frame(payload);
  const std::size_t reserve = is_last_ ? 0 : end_size + end_size_per_function * functions_.size();
  if (written_bytes_ + frame.size() + reserve > options_.budget) return false;
  written_bytes_ += frame.size();
  frames_ += frame;
  has_news_ = true;
  return true;
}

bool Aggregator::consume(PendingCopies pending, bool has_room) {
  constexpr int max_per_call = 4096;
  for (int taken = 0; taken < max_per_call && !is_window_full(); ++taken) {
    const auto event = queue_.front();
    if (event.empty() || !take(event, pending, has_room)) return false;
    queue_.pop();
  }
  return true;
}

std::uint64_t Aggregator::abandon() {
  std::uint64_t calls = 0;
  for (auto event = queue_.front(); !event.empty(); event = queue_.front()) {
    EventHeader header;
    std::memcpy(&header, event.data(), sizeof header);
    calls += header.kind == EventKind::call ? 1 : 0;
    queue_.pop();
  }
  return calls;
}

// False: its copies are still under way.
bool Aggregator::take_with_copies(const EventHeader& header, std::span<const std::byte> body,
                                  PendingCopies pending, bool has_room) {
  std::vector<Content> contents(header.contents);
  if (!contents.empty())
    std::memcpy(contents.data(), body.data(), contents.size() * sizeof(Content));

  // Those that could be copied all belong to one job.
  const auto taken = std::ranges::find_if(contents, [](const Content& c) { return c.job != 0; });
  const std::uint64_t job = taken != contents.end()            ? taken->job
                            : header.kind == EventKind::replay ? header.sequence
                                                               : 0;
  if (job != 0 && !staging_.is_done(job) && pending == PendingCopies::wait) return false;
  if (header.kind == EventKind::replay)
    take_replay(header, contents, has_room);
  else
    take_call(header, contents, body.subspan(contents.size() * sizeof(Content)), has_room);
  if (job != 0) staging_.release(job);
  return true;
}

bool Aggregator::take(std::span<const std::byte> event, PendingCopies pending, bool has_room) {
  EventHeader header;
  std::memcpy(&header, event.data(), sizeof header);
  const auto body = event.subspan(sizeof header);
  switch (header.kind) {
    case EventKind::call:
    case EventKind::replay:
      return take_with_copies(header, body, pending, has_room);
    case EventKind::function:
      take_function(Json::from_cbor(body.first(header.size)));
      return true;
    case EventKind::name:
      if (header.function < functions_.size())
        functions_[header.function].names.push_back(
            Json::from_cbor(body.first(header.size)).get<std::string>());
      return true;
    case EventKind::raised:
      take_raised(header);
      return true;
    case EventKind::begin:
      graphs_[header.graph].clear();
      return true;
    case EventKind::forget:
      graphs_.erase(header.graph);
      return true;
    case EventKind::exposed:
      take_exposed(header.graph);
      return true;
    case EventKind::batch:
      sequences_ = static_cast<std::int64_t>(header.self);
      return true;
  }
  return true;
}

void Aggregator::take_function(const Json& json) {
  HookedFunction hooked;
  hooked.name = json.at("function").get<std::string>();
  hooked.names = json.at("names").get<std::vector<std::string>>();
  const std::string role = json.at("role").get<std::string>();
  hooked.role = recording::from_name<Role>(role).value_or(Role::function);
  Json record = json;
  record["site"] = functions_.size();
  record.erase("names");
  record.erase("role");
  functions_.push_back(std::move(hooked));
  write(RecordKind::function, std::move(record));
}

Aggregator::Wrapper& Aggregator::wrapper_of(std::uint64_t self) {
  if (wrappers_.size() > max_wrappers) wrappers_.clear();
  const auto [found, is_new] = wrappers_.try_emplace(self);
  if (is_new) found->second.number = ++next_wrapper_;
  return found->second;
}

std::span<const std::byte> Aggregator::without_extents(std::span<const std::byte> arguments,
                                                       std::span<const Values> values) {
  if (values.empty()) return arguments;
  without_extents_.assign(arguments.begin(), arguments.end());
  for (const EncodedList& list : find_lists(arguments)) {
    const auto taken = std::ranges::find(values, list.tensor, &Values::tensor);
    if (taken == values.end() || taken->hash == Hash{} ||
        taken->count != static_cast<std::uint64_t>(list.extent) ||
        list.extent > recording::max_list_length)
      continue;
    std::memcpy(without_extents_.data() + list.at, &extent_of_values, sizeof extent_of_values);
  }
  return without_extents_;
}

std::uint32_t Aggregator::signature_of(std::uint32_t function,
                                       std::span<const std::byte> arguments) {
  const Hash key = hash_of(arguments, function + 1);
  if (const auto found = signatures_.find(key); found != signatures_.end()) return found->second;
  if (signatures_.size() >= max_signatures)
    signatures_.clear();  // they are written again, under new numbers
  const std::uint32_t signature = next_signature_++;
  signatures_.emplace(key, signature);
  if (static_cast<double>(written_bytes_) < share_of_groups * static_cast<double>(options_.budget))
    write(RecordKind::signature,
          {{"form", signature},
           {"site", function},
           {"arguments", describe_arguments(arguments, functions_[function].names)}});
  return signature;
}

bool Aggregator::is_in_sample(std::uint32_t function, const std::vector<Values>& values) {
  std::vector<std::uint64_t> octaves, hashes;
  for (const Values& item : values) {
    octaves.push_back(static_cast<std::uint64_t>(std::bit_width(item.count)));
    hashes.insert(hashes.end(), {item.hash.first, item.hash.second});
  }
  std::set<Hash>& kept = buckets_[hash_of(bytes_of(octaves), function)].kept;
  const Hash hash = hash_of(bytes_of(hashes));
  if (kept.contains(hash)) return true;
  if (kept.size() >= options_.kept_per_bucket) {
    if (hash > *kept.rbegin()) return false;
    kept.erase(std::prev(kept.end()));
  }
  kept.insert(hash);
  return true;
}

Aggregator::Arrived Aggregator::take_content(const Content& content,
                                             std::span<const Content> contents) {
  const auto other = [contents](std::int16_t index) -> const Content* {
    const auto place = static_cast<std::size_t>(index);
    return index >= 0 && place < contents.size() ? &contents[place] : nullptr;
  };
  if (const Content* const lengths = other(content.lengths)) return take_table(content, *lengths);

  Arrived arrived{.values = {.count = content.count, .tensor = content.tensor},
                  .is_left_out = content.is_left_out};
  if (content.job == 0 || !staging_.is_done(content.job)) return arrived;
  if (const Content* const bound = other(content.bounded_by);
      bound != nullptr && bound->job != 0 && staging_.is_done(bound->job)) {
    arrived.values.count = std::min(content.count, last_of(*bound));
    arrived.values.from = std::min(arrived.values.count, first_of(*bound));
  }
  arrived.bytes = {content.data, arrived.values.count * content.element_size};
  arrived.values.hash = hash_of(arrived.bytes);
  arrived.is_there = true;
  return arrived;
}

// The pages of all sequences, one after another. How many they are is known from the lengths alone.
Aggregator::Arrived Aggregator::take_table(const Content& content, const Content& lengths) {
  Arrived arrived{.values = {.count = content.count, .tensor = content.tensor},
                  .is_left_out = content.is_left_out};
  const std::uint64_t rows = content.rows, width = rows == 0 ? 0 : content.count / rows;
  if (content.page == 0 || lengths.count != rows || lengths.job == 0 ||
      !staging_.is_done(lengths.job))
    return arrived;
  std::vector<std::uint64_t> pages(rows);
  std::uint64_t all = 0, most = 0;
  for (std::uint64_t row = 0; row < rows; ++row) {
    pages[row] = (length_at(lengths, row) + content.page - 1) / content.page;
    all += pages[row];
    most = std::max(most, pages[row]);
  }
  if (most > width) return arrived;  // these are no lengths
  arrived.values.count = all;
  arrived.values.is_packed = true;
  if (most > columns())
    columns_.store(static_cast<std::uint32_t>(most + most / 4 + 8), std::memory_order_relaxed);

  if (content.job == 0 || !staging_.is_done(content.job)) return arrived;
  arrived.is_left_out = most > content.columns;  // the next time
  if (arrived.is_left_out) return arrived;

  const std::size_t size = content.element_size;
  arrived.packed.reserve(all * size);
  for (std::uint64_t row = 0; row < rows; ++row) {
    const std::byte* const from = content.data + row * content.columns * size;
    arrived.packed.insert(arrived.packed.end(), from, from + pages[row] * size);
  }
  arrived.bytes = arrived.packed;
  arrived.values.hash = hash_of(arrived.bytes);
  arrived.is_there = true;
  return arrived;
}

std::vector<Aggregator::Values> Aggregator::take_values(std::uint32_t function,
                                                        std::span<const Content> contents,
                                                        bool has_room) {
  if (contents.empty()) return {};
  std::vector<Arrived> arrived;
  std::vector<Values> values;
  bool is_whole = true, is_left_out = false;
  for (const Content& content : contents) {
    arrived.push_back(take_content(content, contents));
    values.push_back(arrived.back().values);
    is_whole = is_whole && arrived.back().is_there;
    is_left_out = is_left_out || arrived.back().is_left_out;
  }

  // Kept, sampled out or lost: all of the call's tensors together.
  const bool has_budget = static_cast<double>(written_bytes_) <
                          share_of_contents * static_cast<double>(options_.budget);
  const bool is_kept = is_whole && has_room && has_budget && is_in_sample(function, values);
  const bool is_lost = !is_left_out && (!is_whole || !has_room || !has_budget);
  if (is_lost)
    ++values_lost_;
  else if (!is_kept)
    ++values_sampled_out_;

  // Each kept value is written once.
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i].state = is_kept   ? ValueState::kept
                      : is_lost ? ValueState::lost
                                : ValueState::sampled_out;
    if (!is_kept || written_.contains(values[i].hash)) continue;
    if (written_.size() >= max_remembered_contents) written_.clear();
    written_.insert(values[i].hash);
    const auto* begin = reinterpret_cast<const std::uint8_t*>(arrived[i].bytes.data());
    write(RecordKind::values,
          {{"hash", to_binary(values[i].hash)},
           {"values", Json::binary_t({begin, begin + arrived[i].bytes.size()})}});
  }
  return values;
}

void Aggregator::take_call(const EventHeader& header, std::span<const Content> contents,
                           std::span<const std::byte> body, bool has_room) {
  const auto arguments = body.first(header.size);
  const bool is_traffic = (header.flags & flag::dummy) == 0;
  std::vector<Values> values;
  if (is_traffic && header.graph == 0) values = take_values(header.function, contents, has_room);
  if (header.function >= functions_.size()) return;

  HookedFunction& hooked = functions_[header.function];
  const std::uint32_t signature = signature_of(header.function, without_extents(arguments, values));
  if (header.graph != 0) {
    ++hooked.captured;
    auto& calls = graphs_[header.graph];
    const auto same = std::ranges::find_if(calls, [&](const CapturedCall& call) {
      return call.signature == signature && call.self == header.self &&
             call.flags == header.flags &&
             std::ranges::equal(call.contents, contents, {}, &Content::slot, &Content::slot);
    });
    if (same != calls.end())
      ++same->count;
    else
      calls.push_back({.function = header.function,
                       .signature = signature,
                       .self = header.self,
                       .flags = header.flags,
                       .count = 1,
                       .contents = {contents.begin(), contents.end()}});
    return;
  }
  ++hooked.calls;
  ++taken_.calls;

  // Calls repeated under the previous plan belong before this one: readers pair runs with plans by
  // order.
  if (hooked.role == Role::plan || hooked.role == Role::init) take_repeats();
  Group group{.signature = signature,
              .function = header.function,
              .sequence = header.sequence,
              .count = 1,
              .flags = header.flags,
              .values = std::move(values)};
  if (header.self != 0) {
    if (hooked.role == Role::init)
      wrappers_.erase(header.self);  // a new object at the address of a freed one
    Wrapper& wrapper = wrapper_of(header.self);
    if (hooked.role == Role::plan) {
      wrapper.plan = ++plans_;
      wrapper.sequences = sequences_;
    }
    group.wrapper = wrapper.number;
    group.plan = wrapper.plan;
    group.sequences = wrapper.sequences;
  }
  if (group.sequences == 0) group.flags |= flag::dummy;  // an idle batch
  const auto* raw = body.data() + ((header.size + 7) & ~std::uint32_t{7});
  group.addresses.resize(header.addresses);
  if (header.addresses > 0)
    std::memcpy(group.addresses.data(), raw, header.addresses * sizeof(std::uint64_t));
  if (header.repeats != nullptr) repeated_.push_back({header.repeats, group});
  if (recent_.size() >= max_recent) recent_.clear();
  recent_[header.sequence] = add(std::move(group));
}

void Aggregator::take_raised(const EventHeader& header) {
  auto call = recent_.find(header.sequence);
  if (call == recent_.end()) {
    // A repeated call: its count is taken with the window, into the same group.
    const auto repeated = std::ranges::find_if(
        repeated_, [&](const Repeated& r) { return r.group.sequence == header.sequence; });
    if (repeated == repeated_.end()) {
      write(RecordKind::raised, {{"site", header.function}});
      return;
    }
    Group group = repeated->group;
    group.count = 0;
    call = recent_.emplace(header.sequence, add(std::move(group))).first;
  }
  ++groups_[call->second].raised;
}

void Aggregator::take_repeats() {
  std::erase_if(repeated_, [this](Repeated& repeated) {
    const bool is_retired =
        repeated.repeats->state.load(std::memory_order_acquire) == Repeats::State::retired;
    if (const std::uint32_t count = repeated.repeats->count.exchange(0, std::memory_order_acquire);
        count > 0) {
      Group group = repeated.group;
      group.count = count;
      functions_[group.function].calls += count;
      taken_.calls += count;
      add(std::move(group));
    }
    if (is_retired) repeated.repeats->state.store(Repeats::State::free, std::memory_order_release);
    return is_retired;
  });
}

void Aggregator::take_exposed(std::uint64_t graph) {
  std::uint64_t count = 0;
  if (const auto found = graphs_.find(graph); found != graphs_.end())
    for (const CapturedCall& call : found->second) count += call.count;
  if (count > 0) write(RecordKind::exposed, {{"at", now()}, {"calls", count}});
}

void Aggregator::take_replay(const EventHeader& header, std::span<const Content> inputs,
                             bool has_room) {
  ++taken_.replays;
  const auto graph = graphs_.find(header.graph);
  if (graph == graphs_.end()) return;

  // Each captured call as if it were made now, under its wrapper's current plan.
  for (const CapturedCall& call : graph->second) {
    Group group{.signature = call.signature,
                .function = call.function,
                .count = call.count,
                .sequences = sequences_,
                .is_replayed = true};
    // The replay decides whether a call is traffic, not the capture.
    group.flags =
        static_cast<std::uint8_t>((call.flags & ~flag::dummy) | (header.flags & flag::dummy));
    if (call.self != 0) {
      Wrapper& wrapper = wrapper_of(call.self);
      if (functions_[call.function].role == Role::plan) {  // the runs that follow are its own
        take_repeats();
        wrapper.plan = ++plans_;
        wrapper.sequences = sequences_;
      }
      group.wrapper = wrapper.number;
      group.plan = wrapper.plan;
      group.sequences = wrapper.sequences;
    }
    if (group.sequences == 0) group.flags |= flag::dummy;

    // The values that its index tensors have now, if all of them can be read.
    std::vector<Content> contents = call.contents;
    const bool are_readable = std::ranges::all_of(contents, [inputs](Content& content) {
      const auto slot = static_cast<std::size_t>(content.slot);
      if (content.slot < 0 || slot >= inputs.size() || inputs[slot].slot < 0) return false;
      content.job = inputs[slot].job;
      content.data = inputs[slot].data;
      content.columns = inputs[slot].columns;
      content.is_left_out = inputs[slot].is_left_out;
      return true;
    });
    if (are_readable && (group.flags & flag::dummy) == 0)
      group.values = take_values(call.function, contents, has_room);
    functions_[call.function].calls += call.count;
    add(std::move(group));
  }

  // The batch belonged to this replay.
  sequences_ = -1;
}

std::size_t Aggregator::add(Group group) {
  std::vector<std::uint64_t> key{group.signature,   group.wrapper,
                                 group.plan,        group.flags,
                                 group.is_replayed, static_cast<std::uint64_t>(group.sequences)};
  for (const Values& item : group.values)
    key.insert(key.end(), {item.hash.first, item.hash.second, item.count});
  const auto [found, is_new] = group_of_.try_emplace(hash_of(bytes_of(key)), groups_.size());
  if (is_new)
    groups_.push_back(std::move(group));
  else
    groups_[found->second].count += group.count;
  return found->second;
}

Json Aggregator::group_json(const Group& group) const {
  Json json = {{"form", group.signature}, {"count", group.count}};
  if (group.wrapper != 0) json["wrapper"] = group.wrapper;
  if (group.plan != 0) json["plan"] = group.plan;
  if (group.raised != 0) json["raised"] = group.raised;
  if (group.sequences >= 0) json["sequences"] = group.sequences;
  if ((group.flags & flag::dummy) != 0) json["dummy"] = true;
  if ((group.flags & flag::nested) != 0) json["nested"] = true;
  if (group.is_replayed) json["replayed"] = true;
  if (!group.addresses.empty()) json["addresses"] = group.addresses;
  for (const Values& item : group.values) {
    Json values = {
        {"tensor", item.tensor}, {"count", item.count}, {"state", recording::name(item.state)}};
    if (item.from != 0) values["from"] = item.from;
    if (item.is_packed) values["packed"] = true;
    if (item.hash != Hash{}) values["hash"] = to_binary(item.hash);
    json["values"].push_back(std::move(values));
  }
  return json;
}

std::string Aggregator::take_frames() {
  for (std::size_t begin = 0; begin < groups_.size(); begin += groups_per_frame) {
    const std::span part =
        std::span(groups_).subspan(begin, std::min(groups_per_frame, groups_.size() - begin));
    Json calls = Json::array();
    for (const Group& group : part) calls.push_back(group_json(group));
    const bool has_room = static_cast<double>(written_bytes_) <
                          share_of_groups * static_cast<double>(options_.budget);
    if (!has_room || !write(RecordKind::calls, {{"at", now()}, {"calls", std::move(calls)}}))
      for (const Group& group : part) calls_uncounted_ += group.count;
  }
  groups_.clear();
  group_of_.clear();
  recent_.clear();
  has_news_ = false;
  return std::exchange(frames_, {});
}

std::string Aggregator::idle_frame() {
  write(RecordKind::idle, {{"at", now()}});
  has_news_ = false;
  return std::exchange(frames_, {});
}

std::string Aggregator::end_frames(std::uint64_t events_lost) {
  take_repeats();
  std::string frames = take_frames();
  is_last_ = true;
  Json functions = Json::array();
  for (const HookedFunction& hooked : functions_)
    functions.push_back({{"calls", hooked.calls}, {"captured", hooked.captured}});
  write(RecordKind::end, {{"at", now()},
                          {"sites", std::move(functions)},
                          {"values_lost", values_lost_},
                          {"values_sampled_out", values_sampled_out_},
                          {"calls_over_budget", calls_uncounted_},
                          {"events_lost", events_lost}});
  has_news_ = false;
  return frames + std::exchange(frames_, {});
}

}  // namespace cw::recorder
