// What an account holds and has used, counted against its quota.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "serve/server/accounts.h"

namespace polyveil::serve {

class Usage {
 public:
  explicit Usage(std::string account) : account_(std::move(account)) {}
  const std::string& account() const { return account_; }

  std::atomic<u64> key_sets{0}, key_bytes{0}, sessions{0}, steps{0};

  void AddSeconds(double seconds);
  double SecondsToday() const;
  // Until the next day's begin.
  static int SecondsToMidnight();

 private:
  static long Today();

  const std::string account_;
  mutable std::mutex mutex_;
  mutable long day_ = 0;        // guarded by mutex_, as is
  mutable double seconds_ = 0;  // of that day
};

// A part of one counter; given back when this object ends.
class Charge {
 public:
  using Counter = std::atomic<u64> Usage::*;

  Charge() = default;
  // Nothing when the counter would be above the limit.
  static std::optional<Charge> Try(const std::shared_ptr<Usage>& usage, Counter counter, u64 amount,
                                   std::optional<u64> limit);
  Charge(Charge&& other) noexcept { *this = std::move(other); }
  Charge& operator=(Charge&& other) noexcept {
    std::swap(usage_, other.usage_);
    std::swap(counter_, other.counter_);
    std::swap(amount_, other.amount_);
    return *this;
  }
  ~Charge() {
    if (usage_) (*usage_).*counter_ -= amount_;
  }
  // Takes over the other's part of the same counter.
  void Merge(Charge other) {
    if (!usage_) return void(*this = std::move(other));
    amount_ += std::exchange(other.amount_, 0);
  }

 private:
  std::shared_ptr<Usage> usage_;
  Counter counter_ = nullptr;
  u64 amount_ = 0;
};

// Whoever has sent a request.
struct Member {
  std::shared_ptr<const Account> account = std::make_shared<const Account>();
  std::shared_ptr<Usage> usage = std::make_shared<Usage>("");
};

}  // namespace polyveil::serve
