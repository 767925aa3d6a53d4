#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>

#include "base/console.h"
#include "base/file.h"
#include "capture/recorder/bundle.h"
#include "cli/command.h"
#include "cli/errors.h"
#include "collect/work_dir.h"

namespace cw::cli {
namespace {

namespace fs = std::filesystem;

// Something that a command has left on the disk, outside of what it was asked to write.
struct Leftover {
  std::string what;
  fs::path path;
  std::string keep_reason;  ///< why it is not removed; empty: it is
  FileDescriptor lock;      ///< held until it is removed, so that nobody begins to use it meanwhile
  std::uint64_t bytes = 0;
};

std::string kilobytes(std::uint64_t bytes) {
  return with_separators((bytes + 999) / 1000) + " KB";
}

std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    entries.push_back(it->path());
  std::ranges::sort(entries);
  return entries;
}

// A process of this user whose environment names the folder may still load something from it.
bool is_in_use(const fs::path& folder) {
  for (const fs::path& process : entries_of("/proc")) {
    if (process.filename().string().find_first_not_of("0123456789") != std::string::npos) continue;
    const auto environment = read_pseudo_file((process / "environ").string());
    if (environment && environment->find(folder.string()) != std::string::npos) return true;
  }
  return false;
}

bool is_recent(const fs::path& folder) {
  std::error_code error;
  const auto changed = fs::last_write_time(folder, error);
  return !error && fs::file_time_type::clock::now() - changed < std::chrono::hours(24);
}

// False when somebody holds it; true also where there is no lock to take.
bool take_lock(const fs::path& path, FileDescriptor& lock) {
  lock = FileDescriptor(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  return !lock || ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0;
}

// As collect names its folders: 20261125T173000Z-4711. Others are not ours.
bool is_run(const fs::path& folder) {
  const std::string name = folder.filename().string();
  std::error_code error;
  return name.size() > 17 && name[8] == 'T' && name.substr(15, 2) == "Z-" &&
         name.find_first_not_of("0123456789TZ-") == std::string::npos &&
         !fs::is_symlink(folder, error);
}

std::vector<Leftover> find_leftovers(const fs::path& state, const fs::path& cache,
                                     bool includes_unfinished) {
  std::vector<Leftover> found;
  for (const fs::path& run : entries_of(state / "runs")) {
    if (!is_run(run)) continue;
    Leftover item{"logs of a run", run, "", {}, 0};
    if (!take_lock(run / "lock", item.lock)) item.keep_reason = "still running";
    if (has_unfinished_run(run)) {
      item.what = "unfinished run";
      if (item.keep_reason.empty() && !includes_unfinished)
        item.keep_reason = "collect --resume can continue it";
    }
    found.push_back(std::move(item));
  }
  FileDescriptor submitting;
  const bool is_submitting = !take_lock(state / "submit.lock", submitting);
  for (const fs::path& laid_out : entries_of(state / "submit"))
    found.push_back({"submission to send by hand",
                     laid_out,
                     is_submitting ? "a submit is running" : "",
                     {},
                     0});
  for (const char* log : {"verify.log"})
    if (std::error_code error; fs::exists(state / log, error))
      found.push_back({"log", state / log, "", {}, 0});

  // (The cache may be the same folder.) What env has printed names one that nobody uses yet.
  for (const fs::path& entry : entries_of(cache)) {
    const bool is_recorder = entry.filename().string().starts_with("recorder-");
    if (!is_recorder && !entry.filename().string().starts_with("collect-workloads-")) continue;
    const std::string keep_reason = is_in_use(entry) ? "in use by a process"
                                    : is_recent(entry) && !includes_unfinished
                                        ? "less than a day old"
                                        : "";
    found.push_back(
        {is_recorder ? "recorder" : "partly unpacked recorder", entry, keep_reason, {}, 0});
  }

  for (Leftover& item : found) {
    std::error_code error;
    item.bytes = fs::is_directory(item.path, error) ? disk_usage(item.path)
                                                    : fs::file_size(item.path, error);
  }
  return found;
}

class CleanCommand final : public Command {
 public:
  std::string name() const override { return "clean"; }
  std::string description() const override { return "Remove what commands left behind on disk"; }

  void declare(Options& options) override {
    options.flag("--all", includes_unfinished_,
                 "Also what collect --resume or a printed env\nmay still need");
    options.flag("--dry-run", is_dry_run_, "List what would go; remove nothing");
    options.footer(
        "Removes logs of finished runs, unpacked recorders, and submissions left to be\n"
        "sent by hand, from $XDG_STATE_HOME/collect-workloads (~/.local/state) and\n"
        "$XDG_CACHE_HOME/collect-workloads (~/.cache). Whatever is in use is kept, and a\n"
        "--work-dir of your own is never touched.");
  }

  int run(const CommonArguments& common) override {
    const auto state = state_folder();
    if (!state) return print_error(state.error());
    const auto cache = recording::bundle_cache();
    if (!cache) return print_error(cache.error(), "Set XDG_CACHE_HOME to another folder.");

    Json items = Json::array();
    std::uint64_t freed = 0;
    bool has_failed = false;
    for (const Leftover& item : find_leftovers(*state, *cache, includes_unfinished_)) {
      std::string keep_reason = item.keep_reason;
      if (keep_reason.empty() && !is_dry_run_) {
        std::error_code error;
        fs::remove_all(item.path, error);
        if (error) keep_reason = error.message();
        has_failed |= static_cast<bool>(error);
      }
      if (keep_reason.empty()) freed += item.bytes;
      items.push_back({{"what", item.what},
                       {"path", item.path.string()},
                       {"bytes", item.bytes},
                       {"removed", keep_reason.empty() && !is_dry_run_},
                       {"kept_because", keep_reason}});
      if (!common.is_json)
        print(stdout,
              fmt::format("{:>12}  {}{}\n              {}\n", kilobytes(item.bytes), item.what,
                          keep_reason.empty() ? "" : ", kept: " + keep_reason, item.path.string()));
    }

    if (common.is_json)
      print_json({{"state", state->string()},
                  {"cache", cache->string()},
                  {"bytes", freed},
                  {"items", std::move(items)}});
    else if (items.empty())
      print(stdout, fmt::format("Nothing in {} or {}.\n", state->string(), cache->string()));
    else
      print(stdout, fmt::format("{:>12}  {}\n", kilobytes(freed),
                                is_dry_run_ ? "would be freed" : "freed"));
    return has_failed ? exit_failure : exit_success;
  }

 private:
  bool includes_unfinished_ = false, is_dry_run_ = false;
};

}  // namespace

std::unique_ptr<Command> make_clean() {
  return std::make_unique<CleanCommand>();
}

}  // namespace cw::cli
