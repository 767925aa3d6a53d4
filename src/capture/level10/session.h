// session.jsonl: the order in which calls began, where their names cannot tell.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "base/result.h"

namespace cw::level10 {

/// Calls `begin` with the directory name of each record's call, in the file's order, without parsing
/// more of a record than that: records are kilobytes, and a file of a long run has gigabytes of them.
/// Lines that are cut off or name no directory are skipped. Error codes: "not_found", "unreadable".
Result<void> read_session_order(const std::filesystem::path& path,
                                const std::function<void(std::string_view name)>& begin);

}  // namespace cw::level10
