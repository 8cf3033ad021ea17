#include "serve/server/housekeeper.h"

#include <chrono>

namespace polyveil::serve {

Housekeeper::Housekeeper(double period_seconds, std::function<void()> work)
    : thread_(
          [this, period = std::chrono::duration<double>(period_seconds), work = std::move(work)] {
            std::unique_lock lock(mutex_);
            while (!ended_.wait_for(lock, period, [this] { return ending_; })) {
              lock.unlock();
              work();
              lock.lock();
            }
          }) {}

Housekeeper::~Housekeeper() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  ended_.notify_all();
  thread_.join();
}

}  // namespace polyveil::serve
