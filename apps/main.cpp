#include "cli/main.h"

int main(int argc, char** argv) {
  return cw::cli::main(argc, argv);
}
