// Progress of a long operation, told to whoever asked. Libraries call it; only tools print.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "base/int_types.h"
#include "base/result.h"

namespace polyveil {

// One report: `done` of `total` work units; the label names what runs now.
struct ProgressReport {
  std::string_view label;
  u64 done;
  u64 total;
};

// Thread-safe: workers may call Advance and Cancelled at the same time; the callback is called by
// one at a time.
class Progress {
 public:
  using Callback = std::function<void(const ProgressReport&)>;

  Progress() = default;  // reports to nobody
  explicit Progress(Callback callback) : callback_(std::move(callback)) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Start(u64 total, std::string_view label);
  void Advance(u64 units = 1, std::string_view label = {});  // an empty label keeps the last one
  u64 done() const { return done_.load(std::memory_order_relaxed); }
  u64 total() const { return total_.load(std::memory_order_relaxed); }

  // Asks the operation to stop at its next check.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  // kCancelled after Cancel(), else ok: operations return it between steps.
  Status Check() const;

 private:
  void Report(std::string_view label);

  Callback callback_;
  std::atomic<u64> done_{0};
  std::atomic<u64> total_{0};
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::string label_;  // guarded by mutex_
};

}  // namespace polyveil
