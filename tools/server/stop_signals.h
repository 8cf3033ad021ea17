// SIGINT, SIGTERM and SIGHUP end the server: at once while it starts, in order while it serves, and
// in any case within seconds.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>

namespace polyveil {

class StopSignals {
 public:
  // Before any other thread starts.
  StopSignals();
  // Returns after a signal; the process has kStopSeconds from then on. A second signal ends it.
  void Wait();
  static constexpr int kStopSeconds = 10;

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    bool serving = false, received = false;  // guarded by mutex
  };
  static void Listen(State& state);
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace polyveil
