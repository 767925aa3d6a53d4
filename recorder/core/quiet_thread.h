// Our own threads in somebody else's process: all signals are blocked in them, so that they reach
// the threads that wait for them.
#pragma once

#include <csignal>
#include <thread>
#include <utility>

#include <pthread.h>

namespace cw::recorder {

template <typename Work>
std::thread quiet_thread(Work work) {
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  // A thread inherits its creator's mask.
  struct Restore {
    const sigset_t& mask;
    ~Restore() { ::pthread_sigmask(SIG_SETMASK, &mask, nullptr); }
  } restore{before};
  return std::thread(std::move(work));
}

}  // namespace cw::recorder
