#include "server/stop_signals.h"

#include <signal.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace polyveil {
namespace {

sigset_t Signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGHUP);
  return signals;
}

}  // namespace

StopSignals::StopSignals() {
  signal(SIGPIPE, SIG_IGN);
  const sigset_t signals = Signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // every thread's from here on
  std::thread([state = state_] { Listen(*state); }).detach();
}

void StopSignals::Listen(State& state) {
  const sigset_t signals = Signals();
  int first = 0;
  sigwait(&signals, &first);
  {
    const std::lock_guard lock(state.mutex);
    if (!state.serving) std::_Exit(128 + first);  // nobody is served, nothing is lost
    state.received = true;
  }
  state.changed.notify_all();
  const timespec limit{kStopSeconds, 0};
  int second;
  do {
    second = sigtimedwait(&signals, nullptr, &limit);
  } while (second < 0 && errno == EINTR);
  std::fprintf(stderr, "polyveil-server: ended %s\n",
               second > 0 ? "by a second signal" : "before its last computation was over");
  std::_Exit(128 + first);
}

void StopSignals::Wait() {
  std::unique_lock lock(state_->mutex);
  state_->serving = true;
  state_->changed.wait(lock, [&] { return state_->received; });
}

}  // namespace polyveil
