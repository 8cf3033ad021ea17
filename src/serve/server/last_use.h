// When something was used last, and over which connection: who has left gives way sooner.
#pragma once

#include <memory>
#include <mutex>

#include "base/system.h"

namespace polyveil::serve {

class LastUse {
 public:
  void Touch(std::weak_ptr<const void> connection) {
    const std::lock_guard lock(mutex_);
    idle_.Reset();
    connection_ = std::move(connection);
  }
  double IdleSeconds() const {
    const std::lock_guard lock(mutex_);
    return idle_.Seconds();
  }
  // The connection of the last use has ended.
  bool Left() const {
    const std::lock_guard lock(mutex_);
    return connection_.expired();
  }

 private:
  mutable std::mutex mutex_;
  Timer idle_;
  std::weak_ptr<const void> connection_;
};

}  // namespace polyveil::serve
