// Calls a function again and again, on a thread of its own.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace polyveil::serve {

class Housekeeper {
 public:
  Housekeeper(double period_seconds, std::function<void()> work);
  ~Housekeeper();  // waits for a call under way

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool ending_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace polyveil::serve
