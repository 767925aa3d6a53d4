#include "capture/level10/session.h"

#include <algorithm>
#include <string>

#include <fcntl.h>

#include "base/file.h"

namespace cw::level10 {
namespace {

// The last component of the record's "dump_dir": FlashInfer writes this field once, and no other
// string of a record can hold its quotes unescaped.
std::string_view call_name(std::string_view line) {
  static constexpr std::string_view field = "\"dump_dir\": \"";
  const std::size_t found = line.rfind(field);
  if (found == std::string_view::npos) return {};
  std::string_view path = line.substr(found + field.size());
  const std::size_t quote = path.find('"');
  if (quote == std::string_view::npos) return {};
  path = path.substr(0, quote);
  return path.substr(path.find_last_of("/\\") + 1);
}

}  // namespace

SessionEntry session_entry(std::string_view line) {
  static constexpr std::string_view field = "\"execution_status\": \"";
  SessionEntry entry{call_name(line), {}};
  const std::size_t found = line.rfind(field);
  if (found == std::string_view::npos) return entry;
  const std::string_view status = line.substr(found + field.size());
  entry.status = status.substr(0, status.find('"'));
  return entry;
}

Result<void> read_session_order(const std::filesystem::path& path,
                                const std::function<void(std::string_view)>& begin,
                                std::uint64_t last_bytes) {
  CW_TRY(const FileDescriptor file, open_for_reading(AT_FDCWD, path.string()));
  CW_TRY(const std::uint64_t size, file_size(file, path.string()));
  std::string buffer;
  bool is_in_line = last_bytes < size;  // the first line is truncated

  for (std::uint64_t offset = is_in_line ? size - last_bytes : 0; offset < size;) {
    const std::size_t kept = buffer.size();
    const std::size_t more = std::min<std::uint64_t>(block_size, size - offset);
    buffer.resize(kept + more);
    CW_CHECK(read_exactly(file, offset, more, buffer.data() + kept, path.string()));
    offset += more;

    // Complete lines; a partial one stays for the next block.
    std::string_view rest = buffer;
    for (std::size_t end = rest.find('\n', kept); end != std::string_view::npos;
         end = rest.find('\n')) {
      const std::string_view name =
          is_in_line ? std::string_view() : call_name(rest.substr(0, end));
      if (!name.empty()) begin(name);
      is_in_line = false;
      rest.remove_prefix(end + 1);
    }
    buffer.erase(0, buffer.size() - rest.size());
  }
  return {};
}

}  // namespace cw::level10
