// The command line: parses options and runs the subcommand.
#pragma once

namespace cw::cli {

/// Exit status: 0 done, 1 failed, 2 wrong usage, 3 no workloads.
int main(int argc, char** argv);

}  // namespace cw::cli
