#include "sanitize/tally.h"

namespace cw {
namespace {

// Distinct causes that are kept apart; a damaged capture could have any number.
constexpr std::size_t max_groups = 1000;

}  // namespace

void Tally::add(std::string_view code, std::string_view function, std::string_view message,
                std::size_t position, std::uint64_t count, std::string_view location) {
  const bool grouped = is_grouped(code);
  TallyKey key{std::string(code), std::string(function),
               grouped ? std::string(message) : std::string()};
  if (grouped && items_.size() >= max_groups && !items_.contains(key)) key.detail.clear();
  TallyItem& item = items_[std::move(key)];
  item.count += count;
  if (position >= item.first) return;
  item.first = position;
  item.message = message;
  item.example = location;
}

}  // namespace cw
