#include "cli/errors.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/console.h"
#include "base/redact.h"
#include "cli/command.h"

namespace cw::cli {
namespace {

struct Advice {
  std::string_view code, text;
};

constexpr std::array advices{
    Advice{"disk_full",
           "Free some space and run the same command again; the dataset is valid as it is."},
    Advice{"no_dumps",
           "Give the folder that FLASHINFER_DUMP_DIR named, or one above it; or one with "
           "recordings (*.cbor)."},
    Advice{"not_found", "Check the path."},
    Advice{"state_unusable", "Name another folder for logs and work with XDG_STATE_HOME."},
    Advice{"cache_unusable", "Name another folder for it with XDG_CACHE_HOME."},
    Advice{"unwritable", "Check the permissions of the dataset's folder."},
    Advice{"port_unknown", "collect-workloads collect --help says what --launch-command takes."},
    Advice{"engine_elsewhere", "curl http://HOST:PORT/health says whether it is there."},
    Advice{"checkpoint_malformed",
           "Remove that folder and collect anew; what the dataset has stays."},
    Advice{"capture_changed",
           "Wait until the engine has stopped, then run the same command again."},
    Advice{"workloads_invalid",
           "collect-workloads validate --trace-dir DIR shows what is wrong in it."},
};

}  // namespace

std::string_view advice_for(std::string_view code) {
  const auto found = std::ranges::find(advices, code, &Advice::code);
  return found == advices.end() ? std::string_view() : found->text;
}

int print_error(const Error& error, std::string_view advice) {
  print(stderr, "collect-workloads: error:", Style::red);
  print(stderr, " " + redact(std::string_view(error.message)) + "\n");
  if (advice.empty()) advice = advice_for(error.code);
  if (!advice.empty()) print(stderr, wrap_lines(advice, 80, "  "));
  return exit_failure;
}

}  // namespace cw::cli
