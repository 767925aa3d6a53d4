#include "dataset/merge_records.h"

namespace cw {
namespace {

void put_place(std::string& record, const LinePlace& place) {
  put(record, place.input);
  put(record, place.offset);
  put(record, place.size);
}

// Fields are taken in the order in which they are initialized.
LinePlace take_place(std::string_view& record) {
  return LinePlace{
      .input = take_number(record), .offset = take_number(record), .size = take_number(record)};
}

void put_axes(std::string& record, const std::vector<std::int64_t>& axes) {
  for (const std::int64_t extent : axes) put(record, static_cast<std::uint64_t>(extent));
}

std::vector<std::int64_t> take_axes(std::string_view& record, std::size_t count) {
  std::vector<std::int64_t> axes(count);
  for (std::int64_t& extent : axes) extent = static_cast<std::int64_t>(take_number(record));
  return axes;
}

std::string take_string(std::string_view& record) {
  return std::string(take_text(record));
}

}  // namespace

std::string InputLine::encode() const {
  std::string record;
  put(record, content);
  put(record, id);
  put(record, line_hash);
  put(record, blobs_hash);
  put_place(record, place);
  put_axes(record, var_axes);
  return record;
}

InputLine InputLine::decode(std::string_view record) {
  InputLine line{.content = take_string(record),
                 .id = take_string(record),
                 .line_hash = take_number(record),
                 .blobs_hash = take_number(record),
                 .place = take_place(record),
                 .var_axes = {}};
  line.var_axes = take_axes(record, record.size() / number_size);
  return line;
}

std::string DistinctLine::encode() const {
  std::string record;
  put_axes(record, var_axes);
  put(record, content);
  put_place(record, place);
  put(record, id);
  return record;
}

DistinctLine DistinctLine::decode(std::string_view record, std::size_t num_axes) {
  return {.var_axes = take_axes(record, num_axes),
          .content = take_string(record),
          .place = take_place(record),
          .id = take_string(record)};
}

std::string RenamedId::encode() const {
  std::string record;
  put(record, id);
  put(record, chosen);
  return record;
}

RenamedId RenamedId::decode(std::string_view record) {
  return {.id = take_string(record), .chosen = take_string(record)};
}

std::string UsedId::encode() const {
  std::string record;
  put(record, id);
  put(record, definition);
  put(record, content);
  return record;
}

UsedId UsedId::decode(std::string_view record) {
  return {
      .id = take_string(record), .definition = take_string(record), .content = take_string(record)};
}

std::string SeenItem::encode() const {
  std::string record;
  put(record, definition);
  put(record, id);
  put(record, input);
  put(record, section);
  return record + json;
}

SeenItem SeenItem::decode(std::string_view record) {
  SeenItem item{.definition = take_string(record),
                .id = take_string(record),
                .input = take_number(record),
                .section = take_number(record),
                .json = {}};
  item.json = record;
  return item;
}

std::string ListedItem::encode() const {
  std::string record;
  put(record, capture);
  put(record, definition);
  put(record, id);
  return record + json;
}

ListedItem ListedItem::decode(std::string_view record) {
  ListedItem item{.capture = take_string(record),
                  .definition = take_string(record),
                  .id = take_string(record),
                  .json = {}};
  item.json = record;
  return item;
}

}  // namespace cw
