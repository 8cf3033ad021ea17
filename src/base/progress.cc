#include "base/progress.h"

namespace polyveil {

void Progress::Start(u64 total, std::string_view label) {
  total_.store(total, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  Report(label);
}

void Progress::Advance(u64 units, std::string_view label) {
  done_.fetch_add(units, std::memory_order_relaxed);
  Report(label);
}

Status Progress::Check() const {
  if (!cancelled()) return {};
  return MakeError(ErrorCode::kCancelled, "cancelled after {} of {} steps", done(), total());
}

void Progress::Report(std::string_view label) {
  if (!callback_) return;
  const std::lock_guard lock(mutex_);
  if (!label.empty()) label_ = label;
  callback_({label_, done(), total()});
}

}  // namespace polyveil
