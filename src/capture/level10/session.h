// session.jsonl: the order in which calls began, where their names do not show it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

#include "base/result.h"

namespace cw::level10 {

/// Calls `begin` with the directory name of each record's call, in the file's order, without
/// parsing more of a record than that: records take kilobytes, and a long run's file gigabytes.
/// Lines that are cut off or name no directory are skipped. With `last_bytes`, only the lines that
/// begin within that many bytes of the file's end. Error codes: "not_found", "unreadable".
Result<void> read_session_order(const std::filesystem::path& path,
                                const std::function<void(std::string_view name)>& begin,
                                std::uint64_t last_bytes = ~std::uint64_t{0});

/// The call that a line of session.jsonl refers to, and its status; empty if the line has none.
struct SessionEntry {
  std::string_view name, status;
};
SessionEntry session_entry(std::string_view line);

}  // namespace cw::level10
