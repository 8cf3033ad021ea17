// Waits between attempts at something that a broken connection or a busy server has failed.
#pragma once

#include <atomic>

#include "base/result.h"
#include "base/system.h"

namespace polyveil::serve {

class Backoff {
 public:
  // Attempts begin within budget_seconds of the first failure; `cancel` may be null.
  Backoff(double budget_seconds, const std::atomic<bool>* cancel)
      : budget_seconds_(budget_seconds), cancel_(cancel) {}

  // Whether to try again after this error: only kUnavailable is worth it. Waits before it says yes,
  // 0.1 s at first, twice as long each time up to 5 s.
  bool Again(const Error& error);

 private:
  bool Cancelled() const { return cancel_ != nullptr && *cancel_; }

  const double budget_seconds_;
  const std::atomic<bool>* cancel_;
  Timer since_first_failure_;
  bool failed_ = false;
  double wait_seconds_ = 0.1;
};

}  // namespace polyveil::serve
