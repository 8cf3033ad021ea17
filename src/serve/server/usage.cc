#include "serve/server/usage.h"

#include <ctime>

namespace polyveil::serve {
namespace {

constexpr long kDaySeconds = 86400;

}  // namespace

long Usage::Today() { return std::time(nullptr) / kDaySeconds; }

int Usage::SecondsToMidnight() {
  return static_cast<int>(kDaySeconds - std::time(nullptr) % kDaySeconds);
}

void Usage::AddSeconds(double seconds) {
  const std::lock_guard lock(mutex_);
  if (const long today = Today(); day_ != today) {
    day_ = today;
    seconds_ = 0;
  }
  seconds_ += seconds;
}

double Usage::SecondsToday() const {
  const std::lock_guard lock(mutex_);
  return day_ == Today() ? seconds_ : 0;
}

std::optional<Charge> Charge::Try(const std::shared_ptr<Usage>& usage, Counter counter, u64 amount,
                                  std::optional<u64> limit) {
  std::atomic<u64>& held = (*usage).*counter;
  u64 before = held;
  do {
    if (limit && (before > *limit || amount > *limit - before)) return std::nullopt;
  } while (!held.compare_exchange_weak(before, before + amount));
  Charge charge;
  charge.usage_ = usage;
  charge.counter_ = counter;
  charge.amount_ = amount;
  return charge;
}

}  // namespace polyveil::serve
