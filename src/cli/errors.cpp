#include "cli/errors.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include <fmt/format.h>

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
           "Pass the folder that FLASHINFER_DUMP_DIR named, or a parent of it; or one with "
           "recordings (*.cbor)."},
    Advice{"not_found", "Check the path."},
    Advice{"state_unusable", "Set XDG_STATE_HOME to another folder for logs and state."},
    Advice{"cache_unusable", "Set XDG_CACHE_HOME to another folder."},
    Advice{"unwritable", "Check the permissions of the dataset's folder."},
    Advice{"port_unknown", "See --launch-command in collect-workloads collect --help."},
    Advice{"engine_elsewhere", "Check that it is up: curl http://HOST:PORT/health"},
    Advice{"checkpoint_malformed",
           "Remove that folder and collect again; the dataset keeps what it has."},
    Advice{"capture_changed",
           "Wait until the engine has stopped, then run the same command again."},
    Advice{"workloads_invalid",
           "Run collect-workloads validate --trace-dir DIR to see what is wrong."},
};

}  // namespace

std::string_view advice_for(std::string_view code) {
  const auto found = std::ranges::find(advices, code, &Advice::code);
  return found == advices.end() ? std::string_view() : found->text;
}

int print_error(const Error& error, std::string_view advice) {
  print(stderr, "collect-workloads: error:", Style::red);
  print(stderr, fmt::format(" {}\n", redact(std::string_view(error.message))));
  if (advice.empty()) advice = advice_for(error.code);
  if (!advice.empty()) print(stderr, wrap_lines(advice, 80, "  "));
  return exit_failure;
}

}  // namespace cw::cli
