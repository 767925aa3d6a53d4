#include "engine/engine.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/redact.h"
#include "traffic/traffic.h"

namespace cw {
namespace {

constexpr std::size_t log_tail = 64 << 10;

struct Symptom {
  std::string_view text;  ///< in the log
  std::string_view advice;
};

// First match wins, so the specific come before the general.
constexpr std::array symptoms{
    Symptom{
        "CUDA out of memory",
        "The GPU's memory is too small or taken: look at nvidia-smi, lower --mem-fraction-static "
        "(with --engine-args), or use a larger --tp."},
    Symptom{"torch.OutOfMemoryError",
            "The GPU's memory is too small or in use: check nvidia-smi, lower "
            "--mem-fraction-static (with --engine-args), or use a larger --tp."},
    Symptom{"Not enough memory",
            "The model leaves no room for the KV cache: use a larger --tp or a smaller model."},
    Symptom{"address already in use",
            "The port is in use: stop what listens there, or give another --port."},
    Symptom{"Address already in use",
            "The port is in use: stop what listens there, or give another --port."},
    Symptom{"cannot listen on",
            "The port is in use: stop what listens there, or give another --port."},
    Symptom{"gated repo",
            "The model is gated: ask for access on its page, then log in with `hf auth login` or "
            "HF_TOKEN."},
    Symptom{"GatedRepoError",
            "The model is gated: ask for access on its page, then log in with `hf auth login` or "
            "HF_TOKEN."},
    Symptom{"401 Client Error",
            "The Hub refused the token: log in with `hf auth login` or set HF_TOKEN."},
    Symptom{"RepositoryNotFoundError",
            "There is no such model, or no access to it: check --model-name."},
    Symptom{"is not a valid model identifier", "There is no such model: check --model-name."},
    Symptom{"does not appear to have a file named config.json",
            "That folder holds no model: check --model-name."},
    Symptom{"OfflineModeIsEnabled",
            "The model is not in the cache and HF_HUB_OFFLINE is set: unset it or download first."},
    Symptom{"unrecognized arguments",
            "The installed engine does not know a flag: leave it out of --engine-args, or update "
            "the engine."},
    Symptom{"No module named",
            "A Python module is missing in the engine's environment: install it, or choose another "
            "with --python, --venv or --conda-env."},
    Symptom{"CUDA driver version is insufficient",
            "The driver is older than PyTorch's CUDA: update it, or install a PyTorch for it."},
    Symptom{"no kernel image is available",
            "PyTorch or FlashInfer was built for other GPUs: install builds for this one."},
    Symptom{"no NVIDIA driver",
            "No GPU is seen: check nvidia-smi and CUDA_VISIBLE_DEVICES. Without one, try --engine "
            "simulated."},
    Symptom{"No CUDA GPUs are available",
            "No GPU is seen: check nvidia-smi and CUDA_VISIBLE_DEVICES. Without one, try --engine "
            "simulated."},
    Symptom{"No accelerator",
            "No GPU is seen: check nvidia-smi and CUDA_VISIBLE_DEVICES. Without one, try --engine "
            "simulated."},
    Symptom{"No space left on device",
            "The disk is full: free some space, or give --dump-dir on another disk."},
    Symptom{"No such file or directory", "A path that the engine was given does not exist."},
};

std::string read_tail(const std::filesystem::path& path) {
  auto file = open_for_reading(AT_FDCWD, path.string());
  if (!file) return {};
  const auto size = file_size(*file, path.string());
  if (!size) return {};
  const std::size_t wanted = std::min<std::uint64_t>(*size, log_tail);
  std::string tail(wanted, '\0');
  if (!read_exactly(*file, *size - wanted, wanted, tail.data(), path.string())) return {};
  return tail;
}

// Colours: ESC [ numbers letter.
void remove_escapes(std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\033') {
      plain += text[i];
      continue;
    }
    while (i < text.size() && std::isalpha(static_cast<unsigned char>(text[i])) == 0) ++i;
  }
  text = std::move(plain);
}

// The last `count` meaningful lines.
std::vector<std::string> last_lines(const std::filesystem::path& log, std::size_t count) {
  std::vector<std::string> lines;
  std::string tail = read_tail(log);
  std::ranges::replace(tail, '\r', '\n');
  remove_escapes(tail);
  for (std::size_t end = tail.size(); end > 0 && lines.size() < count;) {
    const std::size_t newline = tail.rfind('\n', end - 1);
    const std::size_t begin = newline == std::string::npos ? 0 : newline + 1;
    if (tail.find_first_not_of(" \t^~-=", begin) < end && begin < end)
      lines.push_back(tail.substr(begin, end - begin));
    end = newline == std::string::npos ? 0 : newline;
  }
  std::ranges::reverse(lines);
  return lines;
}

std::string boot_id() {
  std::string id = read_pseudo_file("/proc/sys/kernel/random/boot_id").value_or("");
  id.resize(std::min(id.find('\n'), id.size()));
  return id;
}

Json describe(pid_t group, const EngineOptions& options) {
  return {{"group", group},
          {"started", start_time(group).value_or(0)},
          {"boot", boot_id()},
          {"owner", ::getpid()},
          {"owner_started", start_time(::getpid()).value_or(0)},
          {"command", to_shell({redact(options.command.arguments)})},
          {"dumps", options.dumps.string()},
          {"resume", options.resume}};
}

// The record's processes that are still the ones it was written about.
std::vector<ProcessIdentity> processes_of(const Json& record) {
  std::vector<ProcessIdentity> processes{
      {static_cast<pid_t>(unsigned_member(record, "group")), unsigned_member(record, "started")}};
  if (const auto listed = record.find("processes"); listed != record.end() && listed->is_array())
    for (const Json& item : *listed)
      if (item.is_array() && item.size() == 2 && item[0].is_number_unsigned() &&
          item[1].is_number_unsigned())
        processes.push_back({item[0].get<pid_t>(), item[1].get<std::uint64_t>()});
  std::erase_if(processes, [](const ProcessIdentity& p) {
    return p.pid <= 1 || start_time(p.pid) != p.started;
  });
  return processes;
}

bool is_running(const Json& record, const char* id, const char* started) {
  const auto pid = static_cast<pid_t>(unsigned_member(record, id));
  const auto since = start_time(pid);
  return pid > 1 && since && *since == unsigned_member(record, started) &&
         string_member(record, "boot") == boot_id();
}

}  // namespace

std::string last_line(const std::filesystem::path& log) {
  const auto lines = last_lines(log, 1);
  return lines.empty() ? std::string() : redact(std::string_view(lines[0]));
}

namespace {

// The line around a place, as it is shown.
std::string line_at(std::string_view text, std::size_t place) {
  constexpr std::size_t max_length = 300;
  const std::size_t begin = text.rfind('\n', place) + 1;  // npos + 1 is 0
  const std::size_t end = std::min(text.find('\n', place), text.size());
  return redact(text.substr(begin, std::min(end - begin, max_length)));
}

// The line at the end of a log in which an engine says that it is serving; empty: none.
std::string claim_to_serve(const std::filesystem::path& log) {
  constexpr std::array<std::string_view, 3> claims{"The server is fired up and ready to roll",
                                                   "Application startup complete",
                                                   "Uvicorn running on"};
  const std::string tail = read_tail(log);
  std::string found;
  for (const std::string_view claim : claims)
    if (const std::size_t place = tail.find(claim); place != std::string::npos)
      found = line_at(tail, place);
  return found;
}

}  // namespace

std::string explain_death(const std::filesystem::path& log,
                          const std::optional<ExitStatus>& status) {
  const std::string tail = read_tail(log);
  std::string text = status ? fmt::format("it exited with {}", to_string(*status))
                            : std::string("it does not answer");
  for (const Symptom& symptom : symptoms)
    if (const std::size_t place = tail.find(symptom.text); place != std::string::npos)
      return fmt::format("{}: {}\n{}", text, line_at(tail, place), symptom.advice);
  for (const std::string& line : last_lines(log, 5))
    text += "\n    " + redact(std::string_view(line)).substr(0, 200);
  return text;
}

Engine::Engine(ProcessGroup group, const EngineOptions& options, std::filesystem::path record)
    : group_(std::move(group)),
      log_(options.log),
      record_(std::move(record)),
      description_(describe(group_->id(), options)) {}

Engine::~Engine() {
  if (group_) stop();
}

void Engine::stop() {
  if (!group_) return;
  group_->stop();
  std::error_code ignored;
  if (!record_.empty()) std::filesystem::remove(record_, ignored);
}

void Engine::note_processes() {
  if (record_.empty() || !group_) return;
  const std::set<ProcessIdentity>& now = group_->look();
  if (now == noted_) return;
  noted_ = now;
  Json record = description_;
  record["processes"] = Json::array();
  for (const ProcessIdentity& process : noted_)
    record["processes"].push_back({process.pid, process.started});
  // If it cannot be written, the previous one stays.
  (void)write_atomically(record_, dump(record) + "\n", Durability::process, Access::owner);
}

Result<Engine> Engine::start(const EngineOptions& options) {
  CW_TRY(ProcessGroup group,
         ProcessGroup::start(options.command, options.log, ProcessGroup::Orphans::adopted));
  std::filesystem::path record;
  if (!options.pid_folder.empty()) record = options.pid_folder / fmt::format("{}.json", group.id());
  Engine engine(std::move(group), options, record);
  if (!record.empty())
    CW_CHECK(write_atomically(record, dump(engine.description_) + "\n", Durability::power_failure,
                              Access::owner));
  return engine;
}

namespace {

using SteadyClock = std::chrono::steady_clock;

// Asks a server whether it is ready, one question at a time.
class ReadyQuestions {
 public:
  explicit ReadyQuestions(const EngineOptions& options) : options_(options) {}

  // Whether it is ready. Error code: "engine_refuses".
  Result<bool> look() {
    if (!question_ && SteadyClock::now() >= next_)
      question_.emplace(options_.url + route_, answer_limit, max_health, options_.headers);
    const auto answer = question_ ? question_->poll() : std::nullopt;
    if (!answer) return false;

    question_.reset();
    next_ = SteadyClock::now() + pause;
    if (!*answer) {
      last_answer_ = redact(std::string_view(answer->error().message));
      return false;
    }
    const int status = static_cast<int>((*answer)->status);
    last_answer_ = fmt::format("HTTP {}", status);
    heard_ = SteadyClock::now();
    if (status == 401 || status == 403)
      return fail(
          "engine_refuses",
          "the engine answers HTTP {} to {}{}: it requires a key; give it with --api-key or "
          "--header",
          status, options_.url, route_);

    // Servers with only OpenAI's routes show by these alone that they are ready.
    if (status == 404) route_ = route_ == "/health" ? "/v1/models" : "/health";
    return status == 200;
  }

  const std::string& last_answer() const { return last_answer_; }
  SteadyClock::time_point heard() const { return heard_; }

 private:
  // SGLang answers by generating a token, which takes a second or more while every call is dumped.
  static constexpr auto answer_limit = std::chrono::seconds(60);
  static constexpr auto pause = std::chrono::milliseconds(200);

  const EngineOptions& options_;
  std::optional<PendingGet> question_;
  std::string route_ = "/health", last_answer_ = "nothing";
  SteadyClock::time_point next_ = SteadyClock::now(), heard_ = next_;
};

}  // namespace

Result<void> Engine::wait_until_ready(const EngineOptions& options,
                                      const std::function<Result<void>()>& meanwhile) {
  constexpr auto between_looks = std::chrono::seconds(1);
  constexpr auto silence_limit = std::chrono::seconds(8);
  const auto deadline = SteadyClock::now() + options.start_limit;
  auto next_look = SteadyClock::now(), unclaimed = next_look;
  ReadyQuestions questions(options);
  for (;;) {
    // Is it alive, and is it ready?
    if (const auto status = this->status())
      return fail("engine_died", "the engine died while starting: {}\nIts log: {}",
                  explain_death(options.log, status), options.log.string());
    CW_TRY(const bool is_ready, questions.look());
    if (is_ready) return {};

    // Does it claim to be serving while nothing answers here?
    if (SteadyClock::now() >= next_look) {
      next_look = SteadyClock::now() + between_looks;
      note_processes();
      const std::string claim = claim_to_serve(options.log);
      if (claim.empty()) unclaimed = SteadyClock::now();
      if (SteadyClock::now() - std::max(unclaimed, questions.heard()) > silence_limit)
        return fail("engine_elsewhere",
                    "the engine's log says that it is ready, but nothing answers at {}\n    {}\n"
                    "It may listen on another port or host: write {{host}} and {{port}} where the "
                    "launch command names its own, or give these with --host and --port\n"
                    "Its log: {}",
                    options.url, claim, options.log.string());
    }

    if (stop_signal() != 0) return fail("interrupted", "interrupted while the engine was starting");
    if (SteadyClock::now() > deadline)
      return fail("engine_slow",
                  "the engine is not ready after {} s; /health answers: {}; its log's last line: "
                  "{}\nIts log: {}",
                  options.start_limit.count(), questions.last_answer(), last_line(options.log),
                  options.log.string());
    CW_CHECK(meanwhile());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

std::vector<std::string> end_orphans(const std::filesystem::path& pid_folder,
                                     const std::string& resume) {
  std::vector<std::string> lines;
  std::vector<std::filesystem::path> records;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(pid_folder, error))
    if (entry.path().extension() == ".json") records.push_back(entry.path());
  std::ranges::sort(records);

  for (const auto& path : records) {
    const auto content = read_file(AT_FDCWD, path.string(), 1 << 20);
    const auto record = content ? parse_json(*content) : std::nullopt;
    if (record && record->is_object() && is_running(*record, "owner", "owner_started")) continue;

    // Stop whatever of it is still running.
    if (record && record->is_object()) {
      ProcessTree left(string_member(*record, "boot") == boot_id()
                           ? processes_of(*record)
                           : std::vector<ProcessIdentity>());
      if (!left.look().empty()) {
        left.end(std::chrono::seconds(15));
        lines.push_back(fmt::format(
            "stopped an engine that an interrupted run had left behind (process group {})",
            unsigned_member(*record, "group")));
      }

      // What it left on disk can still be used.
      const std::string dumps = string_member(*record, "dumps");
      const std::string command = string_member(*record, "resume");
      if (command.empty() ? !dumps.empty() && std::filesystem::exists(dumps, error)
                          : command != resume)
        lines.push_back(
            command.empty()
                ? fmt::format("an interrupted run left dumps in {}; sanitize them with\n  "
                              "collect-workloads sanitize --input {} --trace-dir DIR",
                              dumps, dumps)
                : "a run was killed; resume it with\n  " + command);
    }

    std::filesystem::remove(path, error);
  }
  return lines;
}

Result<int> free_port(const std::string& host, int wanted) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), std::to_string(wanted).c_str(), &hints, &found);
      error != 0)
    return fail("no_port", "'{}' is not an address of this machine: {}", host,
                ::gai_strerror(error));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, ::freeaddrinfo);

  const FileDescriptor socket(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int reuse = 1;  // a server that has just ended does not block the port
  if (socket) ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
  sockaddr_storage address{};
  socklen_t size = sizeof address;

  if (!socket || ::bind(socket.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::listen(socket.get(), 1) != 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    if (wanted != 0 && errno == EADDRINUSE)
      return fail("port_taken",
                  "port {} of {} is in use: stop what listens there, or give another --port",
                  wanted, host);
    return fail("no_port", "cannot listen on {}: {}", host, std::strerror(errno));
  }
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                   : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

std::string url_of(const std::string& host, int port) {
  // A server that listens on all interfaces is reached at loopback.
  const std::string reached = host == "0.0.0.0" ? "127.0.0.1" : host == "::" ? "::1" : host;
  return reached.find(':') == std::string::npos ? fmt::format("http://{}:{}", reached, port)
                                                : fmt::format("http://[{}]:{}", reached, port);
}

}  // namespace cw
