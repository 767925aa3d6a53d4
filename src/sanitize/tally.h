// Counts what happened to calls, with an example of each: nothing is lost silently.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "sanitize/defects.h"

namespace cw {

struct TallyKey {
  std::string code;
  std::string function;  ///< empty for what concerns no single call
  std::string detail;    ///< groups calls by cause; empty if every call's text would differ
  auto operator<=>(const TallyKey&) const = default;
};

struct TallyItem {
  std::uint64_t count = 0;
  std::size_t first = ~std::size_t{0};  ///< position of the example in the capture
  std::string message;                  ///< of the example
  std::string example;                  ///< location of the example
};

/// Results do not depend on the order of calls to add().
class Tally {
 public:
  /// The message becomes part of the key for codes whose calls are grouped by it (defects.h).
  /// `location` is where the call is, or empty.
  void add(std::string_view code, std::string_view function, std::string_view message,
           std::size_t position, std::uint64_t count, std::string_view location);
  void add_defect(std::string_view code, std::string_view message, std::uint64_t count = 1) {
    add(code, "", message, 0, count, "");
  }

  std::map<TallyKey, TallyItem>& items() { return items_; }
  const std::map<TallyKey, TallyItem>& items() const { return items_; }

 private:
  std::map<TallyKey, TallyItem> items_;
};

}  // namespace cw
