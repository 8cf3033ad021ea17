#include "serve/client/backoff.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace polyveil::serve {

bool Backoff::Again(const Error& error) {
  if (error.code != ErrorCode::kUnavailable) return false;
  if (!failed_) since_first_failure_.Reset();
  failed_ = true;
  if (since_first_failure_.Seconds() + wait_seconds_ > budget_seconds_) return false;
  for (Timer timer; timer.Seconds() < wait_seconds_;) {
    if (Cancelled()) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  wait_seconds_ = std::min(5.0, 2 * wait_seconds_);
  return true;
}

}  // namespace polyveil::serve
