// session.jsonl: the order in which calls began, where their names cannot tell.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

#include "base/result.h"

namespace cw::level10 {

/// Calls `begin` with the directory name of each record's call, in the file's order, without
/// parsing more of a record than that: records are kilobytes, and a file of a long run has
/// gigabytes of them. Lines that are cut off or name no directory are skipped. Error codes:
/// "not_found", "unreadable". With `last_bytes`, only the lines that begin in so many bytes at the
/// file's end.
Result<void> read_session_order(const std::filesystem::path& path,
                                const std::function<void(std::string_view name)>& begin,
                                std::uint64_t last_bytes = ~std::uint64_t{0});

/// The call that a line of session.jsonl speaks of, and its status; empty where the line has none.
struct SessionEntry {
  std::string_view name, status;
};
SessionEntry session_entry(std::string_view line);

}  // namespace cw::level10
