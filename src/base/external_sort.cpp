#include "base/external_sort.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

namespace cw {
namespace {

constexpr std::size_t read_size = std::size_t{64} << 10;

using Length = std::uint32_t;

}  // namespace

ExternalSort::ExternalSort(std::filesystem::path folder, std::size_t memory)
    : folder_(std::move(folder)), memory_(memory) {}

Result<void> ExternalSort::add(std::string_view record) {
  if (record.size() > std::numeric_limits<Length>::max())
    return fail("too_large", "a record of {} bytes", record.size());
  if (!places_.empty() &&
      buffer_.size() + record.size() + (places_.size() + 1) * sizeof(Place) > memory_)
    CW_CHECK(spill());
  places_.push_back({buffer_.size(), record.size()});
  buffer_ += record;
  return {};
}

void ExternalSort::sort() {
  std::ranges::sort(places_, [this](const Place& a, const Place& b) {
    return std::string_view(buffer_).substr(a.offset, a.size) <
           std::string_view(buffer_).substr(b.offset, b.size);
  });
}

Result<void> ExternalSort::spill() {
  sort();
  std::string path = (folder_ / "sort-XXXXXX").string();
  FileDescriptor file(::mkostemp(path.data(), O_CLOEXEC));
  if (!file) return fail("unwritable", "cannot write {}: {}", path, std::strerror(errno));
  ::unlink(path.c_str());
  std::uint64_t size = 0;
  std::string block;
  const auto flush = [&]() -> Result<void> {
    CW_CHECK(write_fully(file, block, path));
    size += block.size();
    block.clear();
    return {};
  };

  for (const Place& place : places_) {
    const auto length = static_cast<Length>(place.size);
    block.append(reinterpret_cast<const char*>(&length), sizeof length);
    block.append(buffer_, place.offset, place.size);
    if (block.size() >= read_size) CW_CHECK(flush());
  }
  CW_CHECK(flush());

  runs_.push_back({.file = std::move(file), .end = size, .buffer = {}, .record = {}});
  buffer_.clear();
  places_.clear();
  return {};
}

// The next record of a run, read in blocks.
Result<bool> ExternalSort::advance(Run& run) {
  const auto have = [&](std::size_t wanted) -> Result<bool> {
    if (run.buffer.size() - run.used >= wanted) return true;
    run.buffer.erase(0, run.used);
    run.used = 0;
    const std::size_t missing = wanted - run.buffer.size();
    const std::size_t more = static_cast<std::size_t>(
        std::min<std::uint64_t>(std::max(missing, read_size), run.end - run.position));
    if (more < missing) return false;
    const std::size_t before = run.buffer.size();
    run.buffer.resize(before + more);
    CW_CHECK(
        read_exactly(run.file, run.position, more, run.buffer.data() + before, "a temporary file"));
    run.position += more;
    return true;
  };

  CW_TRY(const bool has_length, have(sizeof(Length)));
  if (!has_length) return false;
  Length length;
  std::memcpy(&length, run.buffer.data() + run.used, sizeof length);
  run.used += sizeof length;

  CW_TRY(const bool has_record, have(length));
  if (!has_record) return fail("truncated", "a temporary file of a sort is damaged");
  run.record.assign(run.buffer, run.used, length);
  run.used += length;
  return true;
}

Result<void> ExternalSort::begin_reading() {
  is_reading_ = true;
  if (runs_.empty()) {
    sort();
    return {};
  }
  if (!places_.empty()) CW_CHECK(spill());
  buffer_ = {};
  places_ = {};
  for (std::size_t i = 0; i < runs_.size(); ++i) {
    CW_TRY(const bool has_record, advance(runs_[i]));
    if (has_record) heap_.push_back(i);
  }
  return {};
}

Result<std::optional<std::string_view>> ExternalSort::next() {
  const auto is_later = [this](std::size_t a, std::size_t b) {
    return runs_[b].record < runs_[a].record;
  };

  // Advance the run that gave the last record.
  if (!is_reading_) {
    CW_CHECK(begin_reading());
    std::make_heap(heap_.begin(), heap_.end(), is_later);
  } else if (!runs_.empty() && !heap_.empty()) {
    // The run on top gave the last record.
    std::pop_heap(heap_.begin(), heap_.end(), is_later);
    CW_TRY(const bool has_record, advance(runs_[heap_.back()]));
    if (has_record)
      std::push_heap(heap_.begin(), heap_.end(), is_later);
    else
      heap_.pop_back();
  }

  // Either everything fits in memory, or take the smallest of all runs.
  if (runs_.empty()) {
    if (next_ == places_.size()) return std::optional<std::string_view>();
    const Place& place = places_[next_++];
    return std::optional(std::string_view(buffer_).substr(place.offset, place.size));
  }
  if (heap_.empty()) return std::optional<std::string_view>();
  return std::optional<std::string_view>(runs_[heap_.front()].record);
}

void put(std::string& record, std::string_view text) {
  record += text;
  record += '\0';
}

void put(std::string& record, std::uint64_t number) {
  for (int shift = 56; shift >= 0; shift -= 8) record += static_cast<char>(number >> shift);
}

std::string_view take_text(std::string_view& record) {
  const std::string_view text = record.substr(0, record.find('\0'));
  record.remove_prefix(text.size() + 1);
  return text;
}

std::uint64_t take_number(std::string_view& record) {
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < number_size; ++i)
    number = number << 8 | static_cast<unsigned char>(record[i]);
  record.remove_prefix(number_size);
  return number;
}

}  // namespace cw
