#include "dataset/publication.h"

#include <cerrno>
#include <cstring>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/parallel.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view journal_name = ".collect-workloads.journal";
constexpr std::uint64_t max_journal = std::uint64_t{1} << 30;

fs::path partial_of(const fs::path& path) {
  return path.string() + std::string(partial_suffix);
}

// Journal lines are blob paths; the folder above a blob is its definition's name, the one above
// that its op type.
fs::path lines_of_blob(const fs::path& blob) {
  const fs::path folder = blob.parent_path();
  return fs::path("workloads") / folder.parent_path().filename() /
         (folder.filename().string() + ".jsonl");
}

}  // namespace

std::set<std::string> unfinished_blobs(const fs::path& root) {
  std::set<std::string> blobs;
  const auto journal = read_file(AT_FDCWD, (root / journal_name).string(), max_journal);
  if (!journal) return blobs;
  std::istringstream lines(*journal);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("blob/workloads/") && line.find("..") == std::string::npos)
      blobs.insert(line);
  return blobs;
}

Result<Publication> Publication::begin(const fs::path& root, std::chrono::milliseconds patience) {
  Publication publication;
  publication.root_ = root;
  CW_TRY(publication.lock_, open_directory(root));
  // Writers hold it for as long as they are writing.
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (::flock(publication.lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      continue;
    }
    return fail("locked", "another collect-workloads is writing to {}; wait until it has finished",
                root.string());
  }
  CW_CHECK(publication.recover());
  return publication;
}

Result<void> Publication::check(const fs::path& root) {
  for (const char* folder : {"", "workloads", "blob"}) {
    const fs::path path = root / folder;
    if (::access(path.c_str(), W_OK | X_OK) == 0 || (*folder != '\0' && errno == ENOENT)) continue;
    return fail(errno == ENOENT ? "not_found" : "unwritable", "cannot write into {}: {}",
                path.string(), std::strerror(errno));
  }
  return {};
}

Result<void> Publication::recover() {
  const std::set<std::string> blobs = unfinished_blobs(root_);
  std::map<fs::path, std::string> lines;
  for (const std::string& blob : blobs) {
    const fs::path path = lines_of_blob(blob), flat = fs::path("workloads") / path.filename();
    if (!is_inside(root_, root_ / fs::path(blob).parent_path()) ||
        !is_inside(root_, root_ / path.parent_path()))
      continue;
    if (!lines.contains(path)) {
      // Look in both files: the other one may have been added since.
      for (const fs::path& file : {path, flat}) {
        lines[path] +=
            read_file(AT_FDCWD, (root_ / file).string(), std::uint64_t{4} << 30).value_or("");
        ::unlink(partial_of(root_ / file).c_str());
      }
    }

    // A blob that no line names was written for a line that never came.
    ::unlink(partial_of(root_ / blob).c_str());
    if (lines[path].find(fs::path(blob).filename().string()) != std::string::npos) continue;
    if (::unlink((root_ / blob).c_str()) == 0) ++recovered_;
  }

  ::unlink(partial_of(root_ / journal_name).c_str());
  ::unlink((root_ / journal_name).c_str());
  return {};
}

Result<void> Publication::publish(const std::vector<NewWorkloads>& additions) {
  std::string journal;
  for (const NewWorkloads& addition : additions)
    for (const NewWorkload& workload : addition.workloads)
      if (!workload.blob.empty()) journal += workload.blob + "\n";
  if (!journal.empty()) CW_CHECK(write_atomically(root_ / journal_name, journal));
  for (const NewWorkloads& addition : additions) {
    auto published = publish_one(addition);
    if (!published) {
      CW_CHECK(recover());
      return published;
    }
  }
  ::unlink((root_ / journal_name).c_str());
  return {};
}

Result<void> Publication::publish_one(const NewWorkloads& addition) {
  if (addition.workloads.empty()) return {};
  std::set<fs::path> folders;
  for (const NewWorkload& workload : addition.workloads)
    if (!workload.blob.empty()) folders.insert((root_ / workload.blob).parent_path());
  const fs::path path = root_ / Dataset::workloads_file(root_, *addition.definition);
  folders.insert(path.parent_path());
  for (const fs::path& folder : folders) {
    if (!is_inside(root_, folder))
      return fail("path_escapes",
                  "{} leads out of the dataset through a link; nothing is written there",
                  folder.string());
    CW_CHECK(make_directories(folder));
  }

  // In parallel for the disk's sake: it can flush many files in the time of one.
  CW_CHECK(run_in_parallel(addition.workloads.size(), [&](std::size_t i) -> Result<void> {
    const NewWorkload& workload = addition.workloads[i];
    if (workload.blob.empty()) return {};
    CW_TRY(const std::string content, workload.content());
    return write_atomically(root_ / workload.blob, content);
  }));

  auto lines = read_file(AT_FDCWD, path.string(), std::uint64_t{4} << 30);
  if (!lines && lines.error().code != "not_found") return tl::unexpected(lines.error());
  std::string content = lines.value_or("");
  if (!content.empty() && content.back() != '\n') content += '\n';
  for (const NewWorkload& workload : addition.workloads)
    if (!workload.line.empty()) content += workload.line + "\n";
  if (content == lines.value_or("")) return {};
  return write_atomically(path, content);
}

Result<void> Publication::write(const fs::path& path, std::string_view content) {
  return write_atomically(root_ / path, content);
}

}  // namespace cw
