#include "collect/work_dir.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/file.h>

#include "base/process.h"
#include "base/redact.h"
#include "base/shell.h"
#include "sanitize/checkpoint.h"

namespace cw {
namespace {

namespace fs = std::filesystem;

constexpr const char* run_file = "collect.json";
constexpr const char* lock_file = "lock";
constexpr std::size_t max_run_file = 1 << 20;

// A command line within a word, such as the value of --launch-command, redacted word by word.
std::string redact_line(const std::string& word) {
  const std::size_t sign = word.starts_with("--") ? word.find('=') : std::string::npos;
  const std::size_t begin = sign == std::string::npos ? 0 : sign + 1;
  const auto line = shell_words(std::string_view(word).substr(begin));
  const auto clean = redact(line);
  return line.size() < 2 || clean == line ? word : word.substr(0, begin) + to_shell({clean, {}});
}

std::optional<Json> read_run_file(const fs::path& work_dir) {
  const auto text = read_file(AT_FDCWD, (work_dir / run_file).string(), max_run_file);
  auto json = text ? parse_json(*text) : std::nullopt;
  return json && json->is_object() ? std::move(json) : std::nullopt;
}

Result<void> write_run_file(const fs::path& work_dir, const Json& json) {
  return write_atomically(work_dir / run_file, dump(json) + "\n", Durability::power_failure,
                          Access::owner);
}

// The last of those that were not finished: their names begin with the time.
Result<fs::path> last_unfinished() {
  CW_TRY(const auto state, state_folder());
  std::error_code error;
  fs::path last;
  for (const auto& entry : fs::directory_iterator(state / "runs", error))
    if (has_unfinished_run(entry.path())) last = std::max(last, entry.path());
  if (last.empty())
    return fail("nothing_to_resume", "no interrupted run is in {}; name its --work-dir",
                (state / "runs").string());
  return last;
}

// A redacted word is useless unless its option is given again.
Result<void> check_secrets(const std::vector<std::string>& words,
                           const std::vector<std::string>& given, const fs::path& work_dir) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i].find(redacted) == std::string::npos) continue;
    const std::string option = words[i].starts_with("--") ? words[i].substr(0, words[i].find('='))
                               : i > 0                    ? words[i - 1]
                                                          : "";
    const bool is_given = std::ranges::any_of(given, [&](const std::string& word) {
      return word == option || word.starts_with(option + "=");
    });
    if (!is_given)
      return fail("secret_needed",
                  "the value of {} contained a secret, which is not stored; give it again:\n"
                  "  {} {} '…'",
                  option, resume_command(work_dir), option);
  }
  return {};
}

// The folder may have been moved, and how results are shown is chosen when resuming.
std::vector<std::string> without_own_options(std::vector<std::string> words) {
  for (auto word = words.begin(); word != words.end();) {
    const bool has_value = *word == "--work-dir" && word + 1 != words.end();
    const bool is_left_out = *word == "--work-dir" || word->starts_with("--work-dir=") ||
                             *word == "-q" || *word == "--quiet" || *word == "--json";
    word = is_left_out ? words.erase(word, word + (has_value ? 2 : 1)) : word + 1;
  }
  return words;
}

}  // namespace

Json RunPosition::to_json() const {
  return {{"requests", requests},
          {"sent_twice", sent_twice},
          {"collected", is_collected},
          {"published", is_published}};
}

std::optional<RunPosition> RunPosition::read(const fs::path& checkpoint) {
  const Json json = Checkpoint::more_of(checkpoint);
  if (!json.is_object()) return std::nullopt;
  return RunPosition{unsigned_member(json, "requests"), unsigned_member(json, "sent_twice"),
                     bool_member(json, "collected"), bool_member(json, "published")};
}

std::string resume_command(const fs::path& work_dir) {
  return to_shell({{"collect-workloads", "collect", "--resume", work_dir.string()}});
}

bool has_unfinished_run(const fs::path& work_dir) {
  std::error_code error;
  for (std::size_t i = 0; fs::exists(WorkDir(work_dir, i + 1).run(i), error); ++i) {
    const WorkDir folder(work_dir, i + 1);
    const auto position = folder.position(i);
    // An unreadable one may be from another version.
    if (position ? !position->is_complete() : fs::exists(folder.checkpoint(i), error)) return true;
  }
  return false;
}

Result<std::vector<std::string>> resumed_words(fs::path& work_dir,
                                               const std::vector<std::string>& given) {
  if (work_dir.empty()) {
    CW_TRY(work_dir, last_unfinished());
  }
  work_dir = fs::absolute(work_dir);
  const auto json = read_run_file(work_dir);
  if (!json || !json->contains("words") || !json->at("words").is_array())
    return fail("nothing_to_resume", "{} is not a work folder of collect: it has no {}",
                work_dir.string(), run_file);

  // Its words, with secrets redacted.
  std::vector<std::string> words;
  for (const Json& word : json->at("words"))
    if (word.is_string()) words.push_back(word.get<std::string>());
  CW_CHECK(check_secrets(words, given, work_dir));
  words = without_own_options(std::move(words));

  // And the directory they were given in: paths in them are relative to it.
  const std::string directory = string_member(*json, "directory");
  if (words.empty() || words[0] != "collect" || directory.empty())
    return fail("nothing_to_resume", "{}: not a run of collect", (work_dir / run_file).string());
  std::error_code error;
  fs::current_path(directory, error);
  if (error)
    return fail("nothing_to_resume", "it was started in {}: {}", directory, error.message());
  return words;
}

fs::path WorkDir::run(std::size_t index) const {
  return path_ / fmt::format("run{}", index + 1);
}

bool WorkDir::is_finished() const {
  const auto json = read_run_file(path_);
  return json && json->contains("finished");
}

Result<void> WorkDir::take(const std::vector<std::string>& words, Start start) {
  // A user's folder that holds other things stays as it is; what we put into it is private.
  std::error_code error;
  const bool is_users = fs::exists(path_, error) && !fs::is_empty(path_, error) &&
                        !fs::exists(path_ / run_file, error);
  if (!is_users) CW_CHECK(ensure_private_directory(path_));

  lock_ = open_private(path_ / lock_file, O_RDWR);
  if (!lock_)
    return fail("unwritable", "cannot write into {}: {}", path_.string(), std::strerror(errno));
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return fail("work_dir_used",
                "a collection is running in {}; stop it, or give another --work-dir",
                path_.string());

  for (std::size_t i = 0; start == Start::fresh && i < runs_; ++i) {
    if (const auto known = position(i); known && !known->is_published)
      return fail("work_dir_used",
                  "{} contains a run that was killed; resume it with\n  {}\nor give another "
                  "--work-dir, or remove that folder",
                  path_.string(), resume_command(path_));
    fs::remove_all(checkpoint(i), error);
  }

  std::vector<std::string> clean = words;
  for (std::string& word : clean) word = redact_line(word);
  return write_run_file(
      path_, {{"words", redact(clean)}, {"directory", fs::current_path(error).string()}});
}

void WorkDir::finish() {
  Json positions = Json::array();
  for (std::size_t i = 0; i < runs_; ++i) {
    const auto known = position(i);
    if (!known || !known->is_complete()) return;
    positions.push_back(known->to_json());
  }
  auto json = read_run_file(path_);
  if (!json) return;
  (*json)["finished"] = std::move(positions);
  if (!write_run_file(path_, *json)) return;

  std::error_code ignored;
  for (std::size_t i = 0; i < runs_; ++i) fs::remove_all(checkpoint(i), ignored);
  fs::remove(path_ / lock_file, ignored);
}

}  // namespace cw
