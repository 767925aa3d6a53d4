// What Debian 12's archives ask of a C library that is newer than Debian 11's, for programs that
// are linked against the latter (packaging/sysroot). Hidden: nobody else in the process finds it.
#include <sys/random.h>

// glibc 2.36; of std::random_device.
__attribute__((visibility("hidden"))) unsigned arc4random(void) {
  unsigned value = 0;
  while (getrandom(&value, sizeof value, 0) != sizeof value) {
  }
  return value;
}

// glibc 2.32: whether libstdc++ may count references without atomic operations. It may not.
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
