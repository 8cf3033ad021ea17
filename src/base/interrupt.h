// Ctrl-C and its kin, the same for every program.
#pragma once

#include <atomic>

namespace polyveil {

// SIGINT, SIGTERM and SIGHUP end the process at once with status 128 + signal, unless an OrderlyEnd
// lives. SIGPIPE and SIGXFSZ become errors of the call that caused them.
void InstallSignalHandlers();

// Set by a signal while an OrderlyEnd lives.
const std::atomic<bool>& Interrupted();
// 128 + the signal that was received; that of SIGINT before any.
int InterruptStatus();

// For work that must not simply stop (keys on a server, a checkpoint, a part of a file). While one
// lives the first signal only sets Interrupted(), which the work reads. A second signal ends the
// process at once; so does the alarm after `patience_seconds` (0: as long as it takes), which goes
// on when this object is gone. Of nested ones the outermost counts.
class OrderlyEnd {
 public:
  explicit OrderlyEnd(unsigned patience_seconds = 10);
  ~OrderlyEnd();
  OrderlyEnd(const OrderlyEnd&) = delete;
  OrderlyEnd& operator=(const OrderlyEnd&) = delete;
};

// Returns when a signal has set Interrupted(). Requires an OrderlyEnd.
void WaitForInterrupt();

}  // namespace polyveil
