// What Debian 12's archives need from a C library newer than Debian 11's, for programs linked
// against the latter (packaging/sysroot). Hidden: nothing else in the process sees it.
#include <sys/random.h>

// glibc 2.36; for std::random_device.
__attribute__((visibility("hidden"))) unsigned arc4random(void) {
  unsigned value = 0;
  while (getrandom(&value, sizeof value, 0) != sizeof value) {
  }
  return value;
}

// glibc 2.32: whether libstdc++ may count references without atomic operations. It may not.
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
