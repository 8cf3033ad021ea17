#include "base/interrupt.h"

#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>

namespace polyveil {
namespace {

std::atomic<bool> interrupted{false};
std::atomic<int> received{SIGINT};
std::atomic<int> orderly_ends{0};
std::atomic<unsigned> patience{0};

// Posted once, by the handler: nothing else that wakes a thread may be called from one.
struct Wakeup {
  sem_t semaphore;
  Wakeup() { sem_init(&semaphore, 0, 0); }
};
Wakeup& TheWakeup() {
  static Wakeup wakeup;
  return wakeup;
}

void OnSignal(int number) {
  const bool again = interrupted.load();
  if (!again) received = number;
  if (again || orderly_ends == 0) _exit(128 + number);
  interrupted = true;
  sem_post(&TheWakeup().semaphore);
  if (const unsigned seconds = patience; seconds > 0) alarm(seconds);
}

void OnAlarm(int) {
  constexpr char kMessage[] = "ended before the work could end in order\n";
  if (write(STDERR_FILENO, kMessage, sizeof kMessage - 1) < 0) _exit(InterruptStatus());
  _exit(InterruptStatus());
}

void Handle(int number, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigaction(number, &action, nullptr);
}

}  // namespace

void InstallSignalHandlers() {
  TheWakeup();
  Handle(SIGALRM, OnAlarm);
  Handle(SIGINT, OnSignal);
  Handle(SIGTERM, OnSignal);
  struct sigaction hangup {};
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) Handle(SIGHUP, OnSignal);  // nohup asks to be left alone
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
}

const std::atomic<bool>& Interrupted() { return interrupted; }
int InterruptStatus() { return 128 + received; }

OrderlyEnd::OrderlyEnd(unsigned patience_seconds) {
  if (orderly_ends == 0) patience = patience_seconds;
  ++orderly_ends;
}

OrderlyEnd::~OrderlyEnd() { --orderly_ends; }

void WaitForInterrupt() {
  while (!interrupted && (sem_wait(&TheWakeup().semaphore) == 0 || errno == EINTR)) {
  }
}

}  // namespace polyveil
